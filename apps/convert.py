"""Reads somebody else's checkpoint into a model folder: `python -m apps.convert --file F`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from apps._main import launch, print_json
from core.errors import UserError, require
from core.layouts.autoencoder_kl import FoundAutoencoder
from core.models import check_place
from core.models.against import difference, outputs, probe, read_examples
from core.models.conversion import Converted, converted, precision_of, source_of, write
from core.models.foreign import Foreign, digest_of, open_foreign
from core.models.kinds import AUTO, WORDS, Given, check_given, guesses, kind_of
from core.tensors import open_tensors
from core.tensors.machine import shown
from core.train.cli import parse_flags
from portolan.progress import Meter
from portolan.tables import console

LARGE = 2**28
"""Bytes from which on a bar shows how far reading has come."""
NO_FLOW = ("autoencoder-kl", "inception", "dinov2")


@dataclass(frozen=True)
class ConvertConfig:
    """Converts a trained network of another program into a model folder of ours.

    It reads safetensors, npz, torch's .pt and .pth, EDM's .pkl, flax's msgpack, and folders of
    Orbax and of diffusers; nothing in them is executed. The model folder is a teacher or a start
    for python -m apps.train, and is sampled and measured as a run is.

    Look first: --file F.pt --list. Then convert, and compare with what your own framework gave:
    --file F.pt --out teachers/sit --check --against io.npz.

    The arrays of io.npz have one row an example. x: (n, C, H, W) or (n, H, W, C). t: the time that
    the original network was given, in its own convention: SiT's tau, 0 for noise and 1 for data;
    DiT's and diffusers' step k; MeanFlow's and iMF's t. sigma in its place for EDM and EDM2, whose
    out is the denoised image D(x, sigma). s: the other time of MeanFlow and iMF (their r; h = t -
    r, the later of t and s is that of x; without it h = 0). label: classes, -1 for none. guidance:
    (w, a, b) of iMF. out: what the original network gave; of a learned variance only the first C
    channels are compared.
    """

    file: str = ""
    """File or folder of the trained network."""
    kind: Annotated[str, tyro.conf.arg(name="from", metavar="NAME")] = AUTO
    """Whose file it is: sit, dit, meanflow, imf, edm, edm2, diffusers (UNet2DModel or
    DiTTransformer2DModel), autoencoder-kl, inception, dinov2; auto guesses by its keys."""
    out: str = ""
    """Model folder to write; it must be missing, empty, or of the same file."""
    list_: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Print keys, shapes and the guess, and write nothing."""
    weights: Literal["ema", "model"] | None = None
    """Which weights of a training checkpoint; default: the averaged ones where there are some."""
    check: bool = False
    """Run the converted network once, and see that its output is finite."""
    against: str | None = None
    """An .npz of inputs and outputs of the original network. The largest error is printed; above
    --bound the exit status is 1 and nothing is written."""
    bound: float = 1e-3
    """Largest error allowed, absolute and over the largest value."""
    dtype: Literal["float32", "keep"] = "float32"
    """Precision of the written weights: float32, or keep that of a file of 16 bits."""
    licence: str | None = None
    """Licence to note, where it is not that of the published weights."""
    given: tyro.conf.OmitArgPrefixes[Given] = Given()
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Looks, converts, checks, compares and writes."""
    config = parse_flags(ConvertConfig, argv)
    require(config.file != "", "no file given; name it with --file")
    wanted = config.list_ or config.check or config.out != "" or config.against is not None
    require(wanted, "nothing to do: give --out DIR, or --list, --check or --against io.npz")
    require(config.bound > 0, f"--bound must be positive, got {config.bound:g}")
    require(config.kind in WORDS, f"--from {config.kind} is none of {', '.join(WORDS)}")
    file = open_foreign(config.file, config.weights, vae=config.kind == "autoencoder-kl")
    if config.list_:
        return listed(file, config)
    kind = kind_of(file, config.kind)
    check_given(kind, config.given)
    hashes = file.hashes()
    if config.out:
        check_place(config.out, {"kind": kind.name, "sha256": digest_of(hashes)})
    with Meter("bytes read", file.size, shown=file.size > LARGE) as meter:
        done = converted(file, kind, config.given, meter.more)
    source = source_of(done, hashes, config.licence)
    result = described(done, source)
    if config.check:
        result["check"] = checked(done)
    if config.against is not None:
        result |= compared(done, config.against, config.bound)
        if not result["equal"]:
            failed(result, config)
    if config.out:
        write_folder(done, source, config)
        result["out"] = config.out
    say(done, source, config)
    return result if config.json else None


def listed(file: Foreign, config: ConvertConfig) -> dict[str, Any] | None:
    """Prints the keys of a file with their shapes, and what it looks like."""
    found = guesses(file)
    looks = " or ".join(f"{kind.title} (--from {kind.says})" for kind in found) or "nothing known"
    if not config.json:
        for key, one in file.tensors.items():
            print(f"{shown(key)}  {' x '.join(map(str, one.shape)) or 'one number'}  {one.kind}")
    numbers = sum(one.size for one in file.tensors.values())
    which = f" of {file.which}" if file.which else ""
    console.print(
        f"{shown(file.path.name)}: {len(file.tensors):,} tensors{which}, {numbers:,} numbers; it "
        f"looks like {looks}"
    )
    if not config.json:
        return None
    tensors = {shown(key): [list(one.shape), one.kind] for key, one in file.tensors.items()}
    return {
        "file": config.file, "which": file.which, "numbers": numbers, "tensors": tensors,
        "guess": [kind.says for kind in found],
    }  # fmt: skip


def described(done: Converted, source: dict[str, Any]) -> dict[str, Any]:
    """The entries of --json."""
    names = ("kind", "title", "file", "sha256", "weights", "keys", "numbers", "left_out", "licence")
    result = {name: source[name] for name in (*names, "assumed")}
    return result | {"shape": list(done.shape), "num_classes": done.classes, "clock": done.clock}


def checked(done: Converted) -> float:
    """The largest value of one pass. Raises `UserError` where the output is not finite."""
    shape = done.shape
    if done.found is None or not all(shape):
        side = 64 if done.found is None else 4 * done.found.config.factor
        shape = (side, side, shape[2])
    values = outputs(done.net, probe(shape, done.classes, done.clock), data_std=done.data_std)
    if not np.isfinite(values).all():
        raise UserError(
            f"{shown(done.file.path.name)}: the converted network gives numbers that are not "
            "finite; get the file again, or say with --weights which of its weights are meant"
        )
    return float(np.abs(values).max())


def compared(done: Converted, against: str, bound: float) -> dict[str, Any]:
    """How far the network is from the original, and whether that is near enough."""
    shape, flows, key = done.shape, done.kind.name not in NO_FLOW, "x"
    if isinstance(done.found, FoundAutoencoder) and "z" in open_tensors(against):
        shape, key = (0, 0, done.found.config.latent_channels), "z"
    how = {"key": key, "order": done.kind.images}
    given, theirs, spare = read_examples(against, shape, done.classes, flows=flows, **how)
    ours = outputs(done.net, given, data_std=done.data_std, decodes=key == "z")
    error = difference(ours, theirs)
    console.print(
        f"largest error {error.absolute:.2g}, {error.relative:.2g} of the largest value "
        f"{error.largest:.3g}, in {len(theirs)} examples of {against}"
    )
    if spare:
        console.print(f"not used of {against}: {', '.join(map(shown, spare[:8]))}")
    found = {"error": error.absolute, "relative": error.relative, "largest": error.largest}
    return found | {"bound": bound, "equal": error.within(bound)}


def failed(result: dict[str, Any], config: ConvertConfig) -> None:
    """Says that the outputs differ, and exits with status 1."""
    print(
        f"failed: {result['title']} does not give what {config.against} says to {config.bound:g}; "
        "nothing was written",
        file=sys.stderr,
    )
    if config.json:
        print_json(result)
    sys.exit(1)


def write_folder(done: Converted, source: dict[str, Any], config: ConvertConfig) -> None:
    """Writes the model folder. Raises `UserError` where it cannot be written."""
    precision = precision_of(done) if config.dtype == "keep" else "float32"
    try:
        write(done, config.out, source, precision)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"cannot write {config.out} ({why}); choose another --out") from None


def say(done: Converted, source: dict[str, Any], config: ConvertConfig) -> None:
    """One line of what was converted, and one of what was assumed."""
    which = f" from {done.file.which}" if done.file.which else ""
    spare = [shown(key) for key in done.spare]
    left = ", ".join(spare[:5]) + (f" and {len(spare) - 5} more" if len(spare) > 5 else "")
    parts = [f"{', '.join(done.words())}, {done.numbers:,} numbers{which}"]
    parts.append(f"left out: {left or 'none'}")
    if config.out:
        size = sum(file.stat().st_size for file in Path(config.out).glob("*.safetensors"))
        parts.append(f"wrote {config.out} ({sized(size)})")
    parts += [f"licence {source['licence']}", done.form()]
    console.print(f"{done.kind.name}: {'; '.join(parts)}", soft_wrap=True)
    if source["assumed"]:
        line = f"{source['assumed']}; say it with the flag where it is not so"
        console.print(line, soft_wrap=True)


def sized(size: int) -> str:
    """A number of bytes for people."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


if __name__ == "__main__":
    launch(main)
