"""All methods of steering towards each class at one budget: `python -m benchmarks.steering`."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from apps import tilt
from apps._main import launch
from apps._tilt.config import TiltConfig
from apps._tilt.specs import file_name
from core.report import pictures
from core.report.versions import versions
from core.train.cli import parse_flags
from core.train.run import open_run
from portolan.tables import markdown, print_table, save

METHODS = (
    "bon", "snis", "smc", "smc:look=tweedie", "smc:look=naive", "smc:look=posterior,steps=4",
    "fk", "tds:steps=16", "fmtt:steps=16", "fmtt-search", "guide:steps=32", "reno:moves=16",
    "pcn:moves=48", "slice:moves=24", "hmc:moves=4", "waltz:moves=8,inner=6",
)  # fmt: skip
COLUMNS = (
    "method", "exact", "success", "least", "reward", "diversity", "ESS", "evaluations",
    "reward calls", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class SteeringConfig:
    """Steers a run without labels towards each class by a classifier's log-probability.

    Every method has the same number of network evaluations (a backward one counts as two). Success
    is the share of the samples that a second classifier, trained by itself, takes for the class:
    mean over the classes, and the least. Writes a table and a picture, a column for each class.
    """

    run: str = "runs/imf-all"
    """Run that has learned all classes together (--plugin.label-drop 0.1)."""
    classifier: str = "runs/classifier"
    """Run of apps.features --task classifier: the reward."""
    judge: str = "runs/judge"
    """A second one, with another seed."""
    methods: tuple[str, ...] = METHODS
    """Methods of steering, with their settings."""
    budget: int = 16_384
    """Evaluations of the network, for each method and class."""
    n: int = 32
    """Particles of an island."""
    out: str = "runs/steering"
    """Folder of the pictures and tables."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Steers towards each class in turn and prints the mean of their tables."""
    config = parse_flags(SteeringConfig, argv)
    dataset = open_run(config.run).spec
    tables = [towards(config, index) for index in range(dataset.num_classes)]
    rows = [averaged([table["rows"][i] for table in tables]) for i in range(len(tables[0]["rows"]))]
    title = f"steering {config.run} towards each class, {config.budget:,} evaluations"
    print_table(title, COLUMNS, rows)
    plotted = [row | {"error": row["reward error"], "mean": row["reward"]} for row in rows]
    out = Path(config.out)
    pictures.reward_plot(plotted, out / "reward.png", title)
    columns = [drawn(config, index) for index in range(dataset.num_classes)]
    shown = np.stack(columns, axis=1).reshape(-1, *dataset.shape)
    pictures.image_grid(
        dataset.encode(shown),
        len(config.methods),
        dataset.num_classes,
        out / "samples.png",
        list(dataset.class_names),
        list(config.methods),
        title=title,
    )
    result = {"versions": versions(), "budget": config.budget, "rows": rows, "classes": tables}
    if config.table:
        save(config.table, result, markdown(title, COLUMNS, rows))
    return result if config.json else None


def towards(config: SteeringConfig, index: int) -> dict[str, Any]:
    """The result of `apps.tilt` for one class."""
    asked = TiltConfig(
        run=config.run,
        plugin=config.methods,
        reward=(f"class:{index}",),
        classifier=config.classifier,
        judge=config.judge,
        lam=1.0,
        n=config.n,
        budget=config.budget,
        out=str(Path(config.out) / str(index)),
        json=True,
    )
    result = tilt.tilted(asked)
    assert result is not None
    return result


def averaged(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One method over the classes."""
    result: dict[str, Any] = {"method": rows[0]["method"], "exact": rows[0].get("exact")}
    success, rewards = [row["success"] for row in rows], [row["mean"] for row in rows]
    result |= {"success": mean(success), "least": min(success), "reward": mean(rewards)}
    result["reward error"] = stdev(rewards) / len(rewards) ** 0.5
    for key in ("diversity", "ESS", "evaluations", "reward calls", "seconds"):
        known = [row[key] for row in rows if row.get(key) is not None]
        if known:
            result[key] = mean(known)
    return result


def drawn(config: SteeringConfig, index: int) -> np.ndarray:
    """One sample of each method for a class, drawn by weight."""
    folder, generator = Path(config.out) / str(index), np.random.default_rng(0)
    samples = []
    for name in config.methods:
        with np.load(folder / f"{file_name(name)}.npz") as kept:
            x, weights = kept["samples"], kept["weights"]
        samples.append(x[generator.choice(len(x), p=weights)])
    return np.stack(samples)


if __name__ == "__main__":
    launch(main)
