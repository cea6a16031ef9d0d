"""Writes a run's sampler as files that run without this project: `python -m apps.export`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jax import export

from apps._exporting import write_packed, write_parts
from apps._main import launch, print_json
from apps._onnx import write_onnx, write_web
from apps._sampling import Sampling
from core.adapters.writing import Keys
from core.errors import UserError, require
from core.export import (
    SamplerFunction,
    check_exportable,
    check_platforms,
    largest_difference,
    make_program,
    write,
)
from core.export.onnx_file import check_installed
from core.report.versions import versions
from core.sampling import Sampler, at_units, usable
from core.train.cli import parse_flags
from portolan.drawing import check, guided_map
from portolan.runs import open as open_run
from portolan.stored import Stored
from portolan.tables import console

BOUND = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference from the run's own samples that counts as equal, over their largest value or
1. On a CPU it is some 1e-6 in float32; accelerators round products of float32 more coarsely."""


@dataclass(frozen=True)
class ExportConfig:
    """Writes a run's sampler into a folder that runs without this project.

    --format onnx writes sampler.onnx, one graph for browsers, phones, C++ and others. By default
    sampler.bin is the program, for several platforms and any number of samples; JAX alone runs it.
    weights.safetensors has the averaged weights by name, for other frameworks too. export.json says
    its inputs and outputs. example.py draws samples: python runs/imf-digits/export/example.py.
    """

    run: str = "runs/imf-digits"
    """Run folder, or model folder of apps.convert."""
    format: Literal["jax", "onnx", "web"] = "jax"
    """jax: a program of JAX and its weights; onnx: one graph with the weights in it; web: a page
    that plays the run, for which npm fetches onnxruntime-web. The last two need
    pip install "portolan[onnx]"."""
    ort: str | None = None
    """Folder of the npm package onnxruntime-web, for --format web; then nothing is fetched."""
    vae: str | None = None
    """Model folder of the autoencoder whose latents a converted network makes; the program then
    makes pictures."""
    nfe: Annotated[int | None, tyro.conf.arg(aliases=["--evals"])] = None
    """Network evaluations a sample, default 1; twice as many with guidance that was not learned."""
    sampler: str | None = None
    """pushforward, restart, gamma (jumps); ddim, dpmpp-2m (ODE); ancestral, churn, euler-maruyama
    (fresh noise); default: the method's own. euler, heun and adaptive cannot be exported."""
    times: tuple[float, ...] = ()
    """Times to stop at, from 1 (noise) to 0 (data), in place of --nfe and --grid: 1 0.6 0."""
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = Sampling()
    platforms: tuple[str, ...] = ("cpu", "cuda", "tpu")
    """Platforms of the program: cpu, cuda, rocm, tpu. None of them need be here."""
    out: str | None = None
    """Folder to write; default: <run>/export, <run>/onnx or <run>/web."""
    packed: Literal["float32", "float16", "bfloat16"] | None = None
    """Write a run folder with these weights alone, in this precision, in place of a program
    (default: <run>/packed). An adapter is merged into them."""
    adapter_only: bool = False
    """Write the adapter alone, of a run that was trained with --adapter.rank, in place of a program
    (default: <run>/adapter)."""
    keys: Keys = "own"
    """Whose names of layers the file of --adapter-only has: own, peft, diffusers or kohya."""
    check: bool = True
    """Read what is written again and compare its samples with the run's own from the same noise."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Exports, checks and lists the files."""
    config = parse_flags(ExportConfig, argv)
    check_platforms(config.platforms)
    _check_format(config)
    scales = config.sampling.scales()
    require(len(scales) == 1, "the scale is an input of the program: give one --guidance at most")
    run = open_run(config.run, vae=config.vae)
    if config.adapter_only:
        return _printed(write_parts(run, config.keys, config.out), config)
    run = config.sampling.adapted(run)
    if config.packed is not None:
        return _printed(write_packed(run, config.packed, config.out), config)
    source = run.source_spec()
    require(
        run.abilities.noise != "none",
        f"{config.run} starts from examples of {source.name if source else 'other data'}, and what "
        "is exported starts from noise: draw its samples with apps.sample",
    )
    plain = _with_plain_attention(run, config)
    function, name = function_of(plain, config)
    scale = scales[0][0] if scales[0] else 1.0 if run.abilities.guidance else None
    if config.format != "jax":
        return _printed(_write_graph(config, function, plain, name, scale), config)
    program, weights = make_program(function, config.platforms)
    folder = Path(config.out or Path(config.run) / "export")
    about = describe(run, plain, config, function, name, scale)
    try:
        sizes = write(folder, program, weights, function, about)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --out") from None
    listed = [f"{file} {size:,} bytes" for file, size in sizes.items()]
    console.print(f"{name}, evaluations a sample: {about['evaluations']}")
    console.print(f"wrote {folder}: {', '.join(listed)}")
    result = {"run": config.run, "step": run.step, "out": str(folder), "bytes": sizes}
    result |= {name: about[name] for name in ("sampler", "steps", "evaluations", "attention")}
    result |= {"parameters": sum(w.size for w in weights.values())}
    result |= {"platforms": list(config.platforms), "inputs": list(function.inputs)}
    if config.check:
        result |= compare(folder, function, run, scale, config)
    if result.get("equal") is False:
        print(f"failed: {folder} does not draw what the run draws", file=sys.stderr)
        if config.json:
            print_json(result)
        sys.exit(1)
    return result if config.json else None


def _write_graph(
    config: ExportConfig, function: SamplerFunction, run: Stored, name: str, scale: float | None
) -> dict[str, Any]:
    how: dict[str, Any] = {"out": config.out, "check": config.check}
    interval = config.sampling.interval
    if config.format == "onnx":
        return write_onnx(function, run, name, scale, interval, **how)
    given = config.nfe is not None or config.times or config.sampling.grid is not None
    require(
        name != "pushforward" or not (given or config.sampling.shift != 1),
        "the page takes any number of jumps itself; leave out --nfe, --times, --grid and --shift",
    )
    return write_web(function, run, name, scale, interval, ort=config.ort, **how)


def _check_format(config: ExportConfig) -> None:
    """Raises `UserError` for flags of another format than the one asked for."""
    require(
        config.packed is None or not config.adapter_only,
        "--packed writes a run and --adapter-only a part of one: give one of them",
    )
    require(config.keys == "own" or config.adapter_only, "--keys goes with --adapter-only")
    require(config.ort is None or config.format == "web", "--ort goes with --format web")
    if config.format == "jax":
        return
    check_installed()
    given = {
        "--platforms": config.platforms != ExportConfig.platforms,
        "--packed": config.packed is not None,
        "--adapter-only": config.adapter_only,
    }
    for flag, there in given.items():
        require(not there, f"{flag} goes with --format jax; leave it out of {config.format}")


def _printed(result: dict[str, Any], config: ExportConfig) -> dict[str, Any] | None:
    return result if config.json else None


def function_of(run: Stored, config: ExportConfig) -> tuple[SamplerFunction, str]:
    """The sampler to export, and its name. Raises `UserError` where flags do not fit."""
    name = config.sampler or run.sampler
    sampler = config.sampling.samplers([name])[name]
    most = check(run, name, sampler)
    check_exportable(name, sampler)
    times = _times(run, config, name, sampler, most)
    flow_map = (
        guided_map(run, [sampler], config.sampling.guidance_channels)
        if config.sampling.guidance
        else run.flow_map
    )
    guided = bool(config.sampling.guidance) or run.abilities.guidance
    data = run.spec
    interval = config.sampling.interval if guided else None
    classes = data.num_classes
    codec = data.codec.open() if data.codec else None
    made = SamplerFunction(
        flow_map, sampler, times, data.shape, classes, interval, data.scale, codec
    )
    return made, name


def _times(
    run: Stored, config: ExportConfig, name: str, sampler: Sampler, most: int | None
) -> np.ndarray:
    """The times at which the sampler stops. Raises `UserError` where it cannot stop so."""
    path, sampling = run.flow_map.path, config.sampling
    if not config.times:
        nfe = 1 if config.nfe is None else config.nfe
        require(nfe >= 1, f"--nfe must be at least 1, got {nfe}")
        usable(name, sampler, [nfe], most)
        return sampling.times(run)(path, sampler.steps(nfe))
    if config.nfe is not None or sampling.grid is not None or sampling.shift != 1:
        raise UserError("--times names every time itself; leave out --nfe, --grid and --shift")
    if most is not None and len(config.times) - 1 > most:
        raise UserError(f"{run.name} jumps from noise only: {most} steps at most")
    return at_units(path, config.times)


def _with_plain_attention(run: Stored, config: ExportConfig) -> Stored:
    """The run with attention by the formula: kernels may not outlive the compiler they are for."""
    own = run.attention
    if own in (None, "xla"):
        return run
    console.print(f"attention is exported as xla, the formula, in place of the run's {own}")
    return config.sampling.adapted(run.with_attention("xla"))


def describe(
    run: Stored,
    plain: Stored,
    config: ExportConfig,
    function: SamplerFunction,
    name: str,
    scale: float | None,
) -> dict[str, Any]:
    """The entries of `export.json` on the run and the sampler."""
    data = run.spec
    values = "images; bytes are round(127.5 (x + 1))" if data.kind == "image" else data.kind
    if data.kind == "tokens":
        values = "shares of symbols; the text has the likeliest of each place"
    if data.scale and not data.codec:
        values = f"{data.kind}, in the units of the data"
    about: dict[str, Any] = {"samples": values, "sampler": name, "steps": function.steps}
    about |= {"settings": config.sampling.given, "times": function.times.tolist()}
    about |= {"evaluations": function.evaluations(), "platforms": list(config.platforms)}
    if scale is not None:
        about |= {"guidance": scale, "interval": config.sampling.interval}
    about |= {"class_names": list(data.class_names)}
    if data.kind == "tokens":
        about |= {"vocabulary": list(data.vocabulary), "end": data.end, "utf8": data.utf8}
    own = run.attention
    about |= {"attention": None if own is None else {"run": own, "here": plain.attention}}
    about |= {"versions": versions(), "step": run.step, **run.about()}
    return about


def compare(
    folder: Path, function: SamplerFunction, run: Stored, scale: float | None, config: ExportConfig
) -> dict[str, Any]:
    """How far the folder's samples are from the run's own, and whether they count as equal; nothing
    where the program is not for this machine."""
    here = export.default_export_platform()
    if here not in config.platforms:
        console.print(f"not checked: the program is not for this machine, which is {here}")
        return {}
    guided = bool(config.sampling.guidance)
    channels = config.sampling.guidance_channels
    own = guided_map(run, [function.sampler], channels) if guided else run.flow_map
    difference, largest = largest_difference(folder, function, own, scale)
    dtype = getattr(run.net_flags, "dtype", "float32")
    bound = BOUND.get(dtype, BOUND["float32"]) * max(1.0, largest)
    console.print(f"largest difference from the run's own samples {difference:.1e}")
    return {"difference": difference, "equal": difference <= bound}


if __name__ == "__main__":
    launch(main)
