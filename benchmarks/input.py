"""Does the data keep up? `python -m benchmarks.input`.

Examples a second that the loader gives, beside those that training takes.
"""

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from apps._main import launch
from benchmarks._steps import dispatches, turn
from benchmarks._timing import interleaved, ratio
from core.data import Dataset, batches
from core.errors import require
from core.report.versions import caption, versions
from core.train.cli import parse, parse_flags
from portolan.tables import markdown, print_table, save

COLUMNS = ("data", "examples", "net", "batch", "loader/s", "training/s", "ratio")
FREE = ("digits", "checkerboard", "eight-gaussians", "two-moons", "spiral", "arrays")
"""Data sets that need no file of the user's; `arrays` is noise, written for the purpose."""


@dataclass(frozen=True)
class InputConfig:
    """The rate of the data pipeline over the rate at which training consumes.

    The loader is Grain's pipeline alone, batch after batch; training is the loop of apps.train with
    each data set's own recipe, which takes its batches from the same pipeline. In each round both
    have their turn. A ratio of 20 means that a twentieth of the time goes to data at most.
    """

    data: tuple[str, ...] = FREE
    """Data sets that need no file: arrays are noise, written for the purpose."""
    idx: str | None = None
    """Folder of IDX files, to measure them too."""
    cifar10: str | None = None
    """Folder of CIFAR-10's binary files, to measure them too."""
    images: str | None = None
    """Folder of pictures, to measure them too."""
    side: int = 32
    """Side to which pictures are scaled."""
    plugin: str = "imf"
    """Method that is trained."""
    train: str = ""
    """Flags of apps.train for every run, in one word: --train="--net.width 32 --batch 64"."""
    batches: int = 200
    """Batches of the loader in a round."""
    dispatches: int = 1
    """Dispatches of training in a round."""
    rounds: int = 3
    """Rounds that are timed, after one that is not."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        for name in self.data:
            require(name in FREE, f"--data {name} is none of {', '.join(FREE)}")
        least = min(self.batches, self.dispatches, self.rounds)
        require(least >= 1, "--batches, --dispatches and --rounds must be at least 1")


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the table and writes it."""
    config = parse_flags(InputConfig, argv)
    with tempfile.TemporaryDirectory() as folder:
        chosen = sources(config, Path(folder))
        rows = [measured(config, flags) for flags in chosen.values()]
    result: dict[str, Any] = {"versions": versions(), "rows": rows}
    table = "Data against training, examples a second", COLUMNS, [shown(row) for row in rows]
    print_table(*table)
    if config.out:
        save(config.out, result, f"{markdown(*table)}\n{caption(result['versions'])}\n")
    return result if config.json else None


def sources(config: InputConfig, folder: Path) -> dict[str, list[str]]:
    """The flags of apps.train that choose each data set asked for."""
    found = {name: ["--data", name] for name in config.data}
    if "arrays" in found:
        file = folder / "noise.npz"
        images = np.random.default_rng(0).integers(0, 256, (2048, 28, 28, 1), np.uint8)
        np.savez(file, images=images)
        found["arrays"] += ["--data.path", str(file)]
    given = {"idx": config.idx, "cifar10": config.cifar10, "images": config.images}
    for name, path in given.items():
        if path:
            found[name] = ["--data", name, "--data.path", path]
    if config.images:
        found["images"] += ["--data.size", str(config.side)]
    return found


def measured(config: InputConfig, flags: list[str]) -> dict[str, Any]:
    """One row."""
    run = parse(["--plugin", config.plugin, *flags, *shlex.split(config.train)])
    dataset: Dataset = run.data_flags.load()
    loop = dispatches(run, dataset)
    loader = batches(dataset, run.batch, run.seed)
    next(loop)  # compiles
    found = interleaved(
        {"loader": turn(loader, config.batches), "training": turn(loop, config.dispatches)},
        config.rounds,
    )
    given = [seconds / (config.batches * run.batch) for seconds in found["loader"]]
    taken = [
        seconds / (config.dispatches * run.dispatch * run.batch) for seconds in found["training"]
    ]
    return {
        "data": run.data,
        "examples": len(dataset),
        "resident": dataset.resident,
        "net": run.net,
        "batch": run.batch,
        "loader_per_second": round(1 / median(given)),
        "training_per_second": round(1 / median(taken), 1),
        "ratio": round(ratio(taken, given), 1),
    }


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the printed table."""
    keys = (
        "data", "examples", "net", "batch", "loader_per_second", "training_per_second", "ratio",
    )  # fmt: skip
    return dict(zip(COLUMNS, (row[key] for key in keys), strict=True))


if __name__ == "__main__":
    launch(main)
