"""Draws samples from a trained run: `python -m apps.sample --run runs/imf-digits`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from apps._main import launch
from apps._sampling import Sampling
from core.data.labels import class_number, labels_in_shares
from core.errors import UserError
from core.files import write_arrays
from core.report.gallery import draw_blocks, in_columns
from core.sampling import Drawing, Sampler
from core.train.cli import parse_flags
from portolan.drawing import draw, times_of
from portolan.progress import Meter
from portolan.runs import Run
from portolan.runs import open as open_run
from portolan.tables import console


@dataclass(frozen=True)
class SampleConfig:
    """Draws samples from a run's averaged weights: a picture (PNG) and the values (npz).

    The npz holds `samples`, images in [-1, 1], data that were scaled (--data.values) in their own
    units, and `labels`, if there are any.
    """

    run: str = "runs/imf-digits"
    """Run folder."""
    sampler: str | None = None
    """pushforward, restart, gamma (jumps); euler, heun, ddim, dpmpp-2m, adaptive (ODE); ancestral,
    churn, euler-maruyama (fresh noise); default: the method's own."""
    steps: int | None = None
    """Steps of the sampler, default 1. Each takes one evaluation; of heun 2, of churn 2 but for the
    last; adaptive takes as many as it needs."""
    times: tuple[float, ...] = ()
    """Times to stop at, from 1 (noise) to 0 (data), in place of --steps and --grid: 1 0.6 0."""
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = Sampling()
    nfe: Annotated[int | None, tyro.conf.arg(aliases=["--evals"])] = None
    """Network evaluations a sample, in place of --steps."""
    n: int = 80
    """Number of samples."""
    label: str | None = None
    """Draw only this class, by its name or its number; default: all classes, in the shares that
    they have in the data."""
    seed: int = 0
    """Seed of the noise."""
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
    check_numbers(config)
    grid, run = config.sampling.times(), open_run(config.run)
    name = config.sampler or run.sampler
    sampler = config.sampling.samplers([name])[name]
    steps = number_of_steps(config, sampler)
    labels, scales = choose_labels(run, config), config.sampling.scales()
    times = times_of(run, name, sampler, steps, grid, config.times)
    with Meter("sampling", config.n * len(scales)) as meter:
        drawn = [
            draw(run, Drawing(sampler, times, scale), labels, seed=config.seed, progress=meter.more)
            for scale in scales
        ]
    out = Path(config.out or Path(config.run) / "samples" / f"sample_{name}_{steps}")
    nfe = drawn[0].nfe
    title = f"{name}, {nfe} {'evaluation' if nfe == 1 else 'evaluations'}"
    paths = write(run, [samples.x for samples in drawn], labels, out, title, config.sampling)
    console.print(f"{title} a sample; wrote {paths[0]} and {paths[1]}")
    result = {"run": config.run, "sampler": name, "steps": steps, "nfe": nfe}
    result |= {"times": times.tolist(), "settings": config.sampling.given}
    if config.sampling.guidance:
        result |= {"guidance": config.sampling.guidance, "interval": config.sampling.interval}
    result |= {"n": config.n, "picture": str(paths[0]), "values": str(paths[1])}
    return result if config.json else None


def check_numbers(config: SampleConfig) -> None:
    """Raises `UserError` where numbers are too small or flags contradict each other."""
    asked = [number for number in (config.steps, config.nfe) if number is not None]
    if min([config.n, *asked]) < 1 or config.seed < 0:
        raise UserError("--n, --nfe and --steps must be at least 1 and --seed at least 0")
    if len(asked) == 2:
        raise UserError("--nfe says how many --steps there are; leave out one of them")
    if config.times and (asked or config.sampling.grid != "uniform" or config.sampling.shift != 1):
        raise UserError(
            "--times names every time itself; leave out --steps, --grid, --shift and --nfe"
        )


def number_of_steps(config: SampleConfig, sampler: Sampler) -> int:
    """The number of steps. Raises `UserError` for evaluations that the sampler cannot use."""
    if config.times:
        return len(config.times) - 1
    return sampler.steps(config.nfe) if config.nfe is not None else config.steps or 1


def choose_labels(run: Run, config: SampleConfig) -> np.ndarray | int:
    """The labels asked for; a number of samples where the data have none."""
    if config.label is not None:
        return np.full(config.n, class_number(run.spec, config.label), np.int32)
    return labels_in_shares(run.spec, config.n) if run.spec.num_classes else config.n


def write(
    run: Run,
    samples: list[np.ndarray],
    labels: np.ndarray | int,
    out: Path,
    title: str,
    sampling: Sampling,
) -> tuple[Path, Path]:
    """Writes `out.png` and `out.npz`; the picture has one column a class where there are ten at
    most, and is block by block where there are several guidance scales."""
    try:
        values = out.with_name(f"{out.name}.npz")
        arrays: dict[str, Any] = {"samples": run.spec.restore(np.concatenate(samples))}
        if not isinstance(labels, int):
            arrays["labels"] = np.tile(labels, len(samples))
        if sampling.guidance:
            arrays["guidance"] = np.repeat(sampling.guidance, len(samples[0]))
        write_arrays(values, arrays)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    picture = out.with_name(f"{out.name}.png")
    shown = run.spec
    if shown.kind != "points":
        given = np.zeros(len(samples[0]), np.int32) if isinstance(labels, int) else labels
        pages = [in_columns(run.spec, block, given) for block in samples]
        shown, samples = pages[0][0], [page for _, page in pages]
    names = [f"guidance {w:g}" for w in sampling.guidance]
    draw_blocks(shown, samples, picture, title, names, run.data_beside())
    return picture, values


if __name__ == "__main__":
    launch(main)
