"""Couplings of two ends: cost, straightness and samples: `python -m benchmarks.ends`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import portolan as po
from apps._main import launch
from core.data.batches import batches
from core.data.starts import start_values
from core.errors import pick, require
from core.metrics import straightness
from core.report.gallery import draw_blocks
from core.report.versions import versions
from core.train.cli import parse_flags
from core.train.ends import couple_of, load_ends
from core.train.gather import device_store, gathering
from portolan.runs import Run
from portolan.tables import console, markdown, print_table, save

COUPLINGS = ("independent", "sinkhorn", "exact")
NFES = (1, 2, 8)
BATCHES = 32
"""Batches over which the cost of pairs is a mean."""
STARTS = 2000
"""Trajectories of the straightness, at most."""
POINTS, IMAGES = 2000, 10
"""Starts in the picture."""
_POINTS = {"net": {"name": "mlp"}, "batch": 128}
_DIGITS = {"net": {"name": "dit", "width": 48, "depth": 3}, "batch": 64}
TASKS: dict[str, dict[str, Any]] = {
    "moons-to-gaussians": {"data": {"name": "eight-gaussians"}, "source": "two-moons", **_POINTS},
    "noise-to-moons": {"data": {"name": "two-moons"}, "source": "noise", **_POINTS},
    "three-to-eight": {
        "data": {"name": "digits", "classes": ("8",)},
        "source": {"name": "digits", "classes": ("3",)},
        **_DIGITS,
    },
}


@dataclass(frozen=True)
class EndsConfig:
    """Trains flow matching with each coupling, and measures the pairs, the paths and the samples.

    `pair_cost` is E |x_0 - z|^2 of the pairs of a batch; `map_cost` the same of the trained map;
    `bend` the deviation of trajectories from their chords, see `core.metrics.straightness`;
    `distance_k` that of samples by k Euler steps from the data: W2 of points, Frechet on pixels of
    images. Finished runs are not trained again.
    """

    task: str = "moons-to-gaussians"
    """moons-to-gaussians, noise-to-moons or three-to-eight."""
    steps: int = 3000
    """Training steps."""
    seeds: int = 1
    """Seeds, from 0 on; the table has the means."""
    out: str = "runs/ends"
    """Folder of the runs."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    picture: str | None = None
    """PNG file to write: starts, and where one Euler step takes them."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains what is missing, measures, and prints the table."""
    config = parse_flags(EndsConfig, argv)
    pick(TASKS, config.task, "task")
    require(config.steps >= 1 and config.seeds >= 1, "--steps and --seeds must be at least 1")
    rows = [mean_row(config, coupling) for coupling in COUPLINGS]
    columns = list(rows[0])
    title = f"Couplings, {config.task}: fm, {config.steps} steps"
    print_table(title, columns, rows)
    result = {"task": config.task, "steps": config.steps, "seeds": config.seeds}
    result |= {"rows": rows, "versions": versions()}
    if config.picture:
        draw(config, Path(config.picture))
    if config.table:
        save(config.table, result, markdown(title, columns, rows))
    return result if config.json else None


def draw(config: EndsConfig, path: Path) -> None:
    """Writes a picture of the first seed's runs."""
    runs = {coupling: trained(config, coupling, 0) for coupling in COUPLINGS}
    first = runs[COUPLINGS[0]]
    points = first.spec.kind == "points"
    starts = starts_of(first, POINTS if points else IMAGES)
    blocks = {"start": starts}
    for coupling, run in runs.items():
        blocks[coupling] = run.sample(len(starts), start=starts, steps=1)
    title = f"{config.task}: one Euler step"
    data = first.dataset() if points else None
    draw_blocks(first.spec, list(blocks.values()), path, title, list(blocks), data)


def starts_of(run: Run, most: int) -> np.ndarray:
    """Values at t = 1: noise, or rows of the source."""
    source = run.source()
    if source is None:
        shape = (most, *run.spec.shape)
        return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return start_values(source, min(most, len(source)), seed=0)


def mean_row(config: EndsConfig, coupling: str) -> dict[str, Any]:
    """The means over the seeds."""
    found = [measured(trained(config, coupling, seed)) for seed in range(config.seeds)]
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {"coupling": coupling, **means}


def trained(config: EndsConfig, coupling: str, seed: int) -> Run:
    """The run of one coupling and seed."""
    folder = Path(config.out) / f"{config.task}-{coupling}-{seed}"
    console.print(f"{folder}")
    return po.train(
        "fm",
        run=folder,
        coupling=coupling,
        seed=seed,
        steps=config.steps,
        ema=0.99,
        sample_every=0,
        save_every=0,
        **TASKS[config.task],
    )


def measured(run: Run) -> dict[str, float]:
    """The figures of one run."""
    found = straightness(run.flow_map, starts_of(run, STARTS))
    key = "w2" if run.spec.kind == "points" else "frechet"
    rows = run.evaluate(NFES, n=min(len(run.dataset()), STARTS)).rows
    distances = {f"distance_{nfe}": row[key] for nfe, row in zip(NFES, rows)}
    return {
        "pair_cost": pair_cost(run),
        "map_cost": found.cost,
        "bend": found.bend,
        **distances,
        "floor": rows[-1][key],
    }


def pair_cost(run: Run) -> float:
    """`E |x_0 - z|^2` of the pairs that training takes."""
    data, couple = load_ends(run.config), couple_of(run.config)
    stream = batches(data, run.config.batch, seed=1)
    raw = [next(stream) for _ in range(BATCHES)]
    stacked = {name: np.stack([one[name] for one in raw]) for name in raw[0]}
    gather, noise = gathering(data, couple), run.flow_map.path.noise

    @eqx.filter_jit
    def cost(store, stacked):
        def one(raw, key):
            batch = gather(store, raw, key)
            z = noise(key, batch.x_0.shape) if batch.z is None else batch.z
            return jnp.mean(jnp.sum((batch.x_0 - z).reshape(len(z), -1) ** 2, axis=1))

        return jnp.mean(
            jax.lax.map(lambda item: one(*item), (stacked, jr.split(jr.key(0), BATCHES)))
        )

    return float(cost(device_store(data), stacked))


if __name__ == "__main__":
    launch(main)
