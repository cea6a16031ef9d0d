"""Draws samples from a trained run: `python -m apps.sample --run runs/imf-digits`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from apps._main import launch
from apps._sampling import Sampling
from core.data.labels import class_number, labels_in_shares
from core.errors import UserError, require
from core.files import write_arrays
from core.report.gallery import MOST_COLUMNS, MOST_ROWS, draw_blocks, in_columns
from core.report.strings import one_line, shown_in
from core.sampling import Drawing, Sampler
from core.train.cli import parse_flags
from portolan.certificate import CERTIFIED
from portolan.drawing import draw, starts_of, times_of
from portolan.progress import Meter
from portolan.runs import open as open_run
from portolan.stored import Stored
from portolan.tables import console

PRINTED = 10
"""Strings on the screen, of text."""


@dataclass(frozen=True)
class SampleConfig:
    """Draws samples from a run's averaged weights, or from a converted network: a picture (PNG) and
    the values (npz). Of text the strings, in a .txt and some on the screen.

    The npz holds `samples`, images in [-1, 1], data that were scaled (--data.values) in their own
    units, and `labels`, if there are any; of a run trained with --source also `starts`, the
    examples that they start from, in theirs, and of one on latents the decoded `pictures`. Samples
    of text are codes, with the strings as `texts`.
    """

    run: str = "runs/imf-digits"
    """Run folder, or model folder of apps.convert."""
    vae: str | None = None
    """Model folder of the autoencoder whose latents a converted network makes, for pictures."""
    sampler: str | None = None
    """pushforward, restart, gamma (jumps); euler, heun, ddim, dpmpp-2m, adaptive (ODE); ancestral,
    churn, euler-maruyama (fresh noise); default: the method's own."""
    steps: int | None = None
    """Steps of the sampler, default 1. Each takes one evaluation; of heun 2, of churn 2 but for the
    last; adaptive takes as many as it needs."""
    times: tuple[float | Literal["certified"], ...] = ()
    """Times to stop at, from 1 (noise) to 0 (data), in place of --steps and --grid: 1 0.6 0; or
    certified: those that apps.inspect --certify found for so many --steps."""
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = Sampling()
    nfe: Annotated[int | None, tyro.conf.arg(aliases=["--evals"])] = None
    """Network evaluations a sample, in place of --steps."""
    n: int = 80
    """Number of samples."""
    label: str | None = None
    """Draw only this class, by its name or its number; default: all classes, in the shares that
    they have in the data."""
    start: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """File of examples that samples start from (.npz or .npy), of a run trained with --source;
    default: some of the source itself."""
    seed: int = 0
    """Seed of the noise, or of which examples of the source."""
    out: str | None = None
    """Output without ending; default: <run>/samples/sample_<sampler>_<steps>."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Draws, and writes picture and values."""
    config = parse_flags(SampleConfig, argv)
    config = with_certified(config)
    check_numbers(config)
    run = open_run(config.run, vae=config.vae)
    grid = config.sampling.times(run)
    run = config.sampling.adapted(run)
    name = config.sampler or run.sampler
    sampler = config.sampling.samplers([name])[name]
    steps = number_of_steps(config, sampler)
    labels, scales = choose_labels(run, config), config.sampling.scales()
    times = times_of(run, name, sampler, steps, grid, tuple(map(float, config.times)))
    starts = starts_of(run, config.n, config.seed, config.start)
    with Meter("sampling", config.n * len(scales)) as meter:
        drawn = [
            draw(
                run,
                Drawing(sampler, times, scale, starts),
                labels,
                channels=config.sampling.guidance_channels,
                seed=config.seed,
                progress=meter.more,
            )
            for scale in scales
        ]
    out = Path(config.out or Path(config.run) / "samples" / f"sample_{name}_{steps}")
    nfe = drawn[0].nfe
    title = f"{name}, {nfe} {'evaluation' if nfe == 1 else 'evaluations'}"
    found = [samples.x for samples in drawn]
    if starts is None:
        paths = write(run, found, labels, out, title, config.sampling)
    else:
        starts = np.resize(starts, found[0].shape)  # they are taken again where they are fewer
        paths = write_from(run, starts, found[0], labels, out, title)
    if run.spec.kind == "tokens":
        for text in run.spec.texts(found[0][:PRINTED]):
            print(one_line(text))
    console.print(f"{title} a sample; wrote {paths[0]} and {paths[1]}")
    result = {"run": config.run, "sampler": name, "steps": steps, "nfe": nfe}
    result |= {"times": times.tolist(), "settings": config.sampling.given}
    if config.sampling.guidance:
        result |= {"guidance": config.sampling.guidance, "interval": config.sampling.interval}
    result |= {"n": config.n, "picture": str(paths[0]), "values": str(paths[1])}
    return result if config.json else None


def with_certified(config: SampleConfig) -> SampleConfig:
    """`--times certified` as what it is, a grid. Raises `UserError` beside other times."""
    if CERTIFIED not in config.times:
        return config
    require(
        config.times == (CERTIFIED,) and config.sampling.grid is None,
        "--times certified stands alone: leave out other --times and --grid",
    )
    sampling = dataclasses.replace(config.sampling, grid=CERTIFIED)
    return dataclasses.replace(config, times=(), sampling=sampling)


def check_numbers(config: SampleConfig) -> None:
    """Raises `UserError` where numbers are too small or flags contradict each other."""
    asked = [number for number in (config.steps, config.nfe) if number is not None]
    if min([config.n, *asked]) < 1 or config.seed < 0:
        raise UserError("--n, --nfe and --steps must be at least 1 and --seed at least 0")
    if len(asked) == 2:
        raise UserError("--nfe says how many --steps there are; leave out one of them")
    if config.times and (asked or config.sampling.grid is not None or config.sampling.shift != 1):
        raise UserError(
            "--times names every time itself; leave out --steps, --grid, --shift and --nfe"
        )


def number_of_steps(config: SampleConfig, sampler: Sampler) -> int:
    """The number of steps. Raises `UserError` for evaluations that the sampler cannot use."""
    if config.times:
        return len(config.times) - 1
    return sampler.steps(config.nfe) if config.nfe is not None else config.steps or 1


def choose_labels(run: Stored, config: SampleConfig) -> np.ndarray | int:
    """The labels asked for; a number of samples where the data have none."""
    if config.label is not None:
        return np.full(config.n, class_number(run.spec, config.label), np.int32)
    return labels_in_shares(run.spec, config.n) if run.spec.num_classes else config.n


def write_from(
    run: Stored,
    starts: np.ndarray,
    samples: np.ndarray,
    labels: np.ndarray | int,
    out: Path,
    title: str,
) -> tuple[Path, Path]:
    """Writes `out.png` and `out.npz`: samples with the examples that they start from, images in
    rows that take turns."""
    values, picture = out.with_name(f"{out.name}.npz"), out.with_name(f"{out.name}.png")
    source = run.source_spec() or run.spec
    arrays: dict[str, Any] = {"samples": run.spec.restore(samples)}
    arrays["starts"] = source.restore(starts)
    if not isinstance(labels, int):
        arrays["labels"] = labels
    store(values, arrays)
    spec, blocks, names = dataclasses.replace(run.spec, num_classes=0), [starts, samples], []
    if spec.kind == "image":
        wide = min(MOST_COLUMNS, len(samples))
        rows = min(len(samples) // wide, MOST_ROWS // 2)
        pairs = [block[: rows * wide].reshape(rows, wide, *spec.shape) for block in blocks]
        blocks = [row for both in zip(*pairs) for row in both]
        names = ["start", "sample"] * rows
    draw_blocks(spec, blocks, picture, title, names or ["start", title], run.data_beside())
    return shown_in(spec, picture), values


def store(values: Path, arrays: dict[str, Any]) -> None:
    """Writes the values. Raises `UserError` where it cannot."""
    try:
        write_arrays(values, arrays)
    except OSError as error:
        out = values.with_suffix("")
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None


def write(
    run: Stored,
    samples: list[np.ndarray],
    labels: np.ndarray | int,
    out: Path,
    title: str,
    sampling: Sampling,
) -> tuple[Path, Path]:
    """Writes `out.png` and `out.npz`; the picture has one column a class where there are ten at
    most, and is block by block where there are several guidance scales."""
    values = out.with_name(f"{out.name}.npz")
    arrays: dict[str, Any] = {"samples": run.spec.restore(np.concatenate(samples))}
    if run.spec.codec:
        arrays["pictures"] = run.spec.pictures(np.concatenate(samples))
    if run.spec.kind == "tokens":
        arrays["texts"] = np.array(run.spec.texts(np.concatenate(samples)))
    if not isinstance(labels, int):
        arrays["labels"] = np.tile(labels, len(samples))
    if sampling.guidance:
        arrays["guidance"] = np.repeat(sampling.guidance, len(samples[0]))
    store(values, arrays)
    picture = out.with_name(f"{out.name}.png")
    shown = run.spec
    if shown.kind not in ("points", "tokens"):
        given = np.zeros(len(samples[0]), np.int32) if isinstance(labels, int) else labels
        pages = [in_columns(run.spec, block, given) for block in samples]
        shown, samples = pages[0][0], [page for _, page in pages]
    names = [f"guidance {w:g}" for w in sampling.guidance]
    draw_blocks(shown, samples, picture, title, names, run.data_beside())
    return shown_in(shown, picture), values


if __name__ == "__main__":
    launch(main)
