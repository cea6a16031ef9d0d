"""Draws samples from a trained run: `python -m apps.sample --run runs/imf-digits`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
import tyro

from apps._main import launch
from apps._progress import Meter
from apps._sampling import Sampling, check, check_guidance
from apps._table import console
from core.errors import UserError
from core.gallery import MOST_COLUMNS, draw, grid_labels
from core.sampling import at_units, generate
from core.train.cli import parse_flags
from core.train.run import Run, open_run


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
    name = config.sampler or run.built.method.sampler
    sampler = config.sampling.samplers([name])[name]
    most = check(run, name, sampler)
    check_guidance(run, config.sampling.guidance)
    if most is not None and steps > most:
        raise UserError(f"{run.config.plugin} jumps from noise only: --steps is at most {most}")
    path, labels = run.flow_map.path, choose_labels(run, config)
    times = at_units(path, config.times) if config.times else grid(path, steps)
    with Meter("sampling", config.n) as meter:
        samples = generate(
            run.flow_map,
            sampler,
            times,
            run.built.dataset.shape,
            labels,
            key=jr.key(config.seed),
            guidance=config.sampling.guidance,
            progress=meter.more,
        )
    out = Path(config.out or Path(config.run) / "samples" / f"sample_{name}_{steps}")
    plural = "evaluation" if samples.nfe == 1 else "evaluations"
    title = f"{name}, {samples.nfe} {plural}"
    paths = write(run, samples.x, labels, out, title)
    console.print(f"{title} a sample; wrote {paths[0]} and {paths[1]}")
    result = {"run": config.run, "sampler": name, "steps": steps, "nfe": samples.nfe}
    result |= {"times": times.tolist(), "settings": config.sampling.given}
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
    classes = run.built.dataset.num_classes
    if config.label is None:
        if not classes:
            return config.n
        return np.resize(grid_labels(classes, 1), config.n)
    if not 0 <= config.label < classes:
        what = f"classes 0 to {classes - 1}" if classes else "no classes"
        raise UserError(f"--label {config.label}: this run has {what}")
    return np.full(config.n, config.label)


def write(
    run: Run, samples: np.ndarray, labels: np.ndarray | int, out: Path, title: str
) -> tuple[Path, Path]:
    """Writes `out.png` and `out.npz`; the picture shows whole rows only."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        values = out.with_name(f"{out.name}.npz")
        if isinstance(labels, int):
            np.savez_compressed(values, samples=samples)
        else:
            np.savez_compressed(values, samples=samples, labels=labels)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    dataset, picture = run.built.dataset, out.with_name(f"{out.name}.png")
    columns = min(dataset.num_classes or MOST_COLUMNS, MOST_COLUMNS, len(samples))
    rows = len(samples) // columns
    single = not isinstance(labels, int) and len(set(labels.tolist())) == 1
    shown = dataclasses.replace(dataset, num_classes=0) if single else dataset
    kept = samples if dataset.kind == "points" else samples[: rows * columns]
    draw(shown, kept, picture, rows, title)
    return picture, values


if __name__ == "__main__":
    launch(main)
