"""Draws samples from a trained run: `python -m apps.sample --run runs/imf-digits`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from apps._main import launch
from apps._sampling import Sampling
from core.errors import UserError
from core.report.gallery import draw_blocks, grid_labels
from core.sampling import Drawing
from core.train.cli import parse_flags
from portolan.drawing import draw, times_of
from portolan.progress import Meter
from portolan.runs import Run
from portolan.runs import open as open_run
from portolan.tables import console


@dataclass(frozen=True)
class SampleConfig:
    """Draws samples from a run's averaged weights: a picture (PNG) and the values (npz).

    The npz holds `samples` in network values (images in [-1, 1]) and `labels`, if there are any.
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
    n: int = 80
    """Number of samples."""
    label: int | None = None
    """Draw only this class; default: one column a class."""
    seed: int = 0
    """Seed of the noise."""
    out: str | None = None
    """Output without ending; default: <run>/samples/sample_<sampler>_<steps>."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Draws, and writes picture and values."""
    config = parse_flags(SampleConfig, argv)
    steps, grid = number_of_steps(config), config.sampling.times()
    run = open_run(config.run)
    name = config.sampler or run.sampler
    sampler = config.sampling.samplers([name])[name]
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


def number_of_steps(config: SampleConfig) -> int:
    """The number of steps. Raises `UserError` where flags are wrong or contradict each other."""
    steps = 1 if config.steps is None else config.steps
    if config.n < 1 or steps < 1 or config.seed < 0:
        raise UserError("--n and --steps must be at least 1 and --seed at least 0")
    if not config.times:
        return steps
    if config.steps is not None or config.sampling.grid != "uniform" or config.sampling.shift != 1:
        raise UserError("--times names every time itself; leave out --steps, --grid and --shift")
    return len(config.times) - 1


def choose_labels(run: Run, config: SampleConfig) -> np.ndarray | int:
    """The labels asked for; a number of samples where the data have none."""
    classes = run.spec.num_classes
    if config.label is None:
        if not classes:
            return config.n
        return np.resize(grid_labels(classes, 1), config.n)
    if not 0 <= config.label < classes:
        what = f"classes 0 to {classes - 1}" if classes else "no classes"
        raise UserError(f"--label {config.label}: this run has {what}")
    return np.full(config.n, config.label)


def write(
    run: Run,
    samples: list[np.ndarray],
    labels: np.ndarray | int,
    out: Path,
    title: str,
    sampling: Sampling,
) -> tuple[Path, Path]:
    """Writes `out.png` and `out.npz`; the picture shows whole rows only, block by block where there
    are several guidance scales."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        values = out.with_name(f"{out.name}.npz")
        arrays: dict[str, Any] = {"samples": np.concatenate(samples)}
        if not isinstance(labels, int):
            arrays["labels"] = np.tile(labels, len(samples))
        if sampling.guidance:
            arrays["guidance"] = np.repeat(sampling.guidance, len(samples[0]))
        np.savez_compressed(values, **arrays)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    picture = out.with_name(f"{out.name}.png")
    single = not isinstance(labels, int) and len(set(labels.tolist())) == 1
    shown = dataclasses.replace(run.spec, num_classes=0) if single else run.spec
    names = [f"guidance {w:g}" for w in sampling.guidance]
    draw_blocks(shown, samples, picture, title, names, run.data_beside())
    return picture, values


if __name__ == "__main__":
    launch(main)
