"""The end of a training: pictures and a table of samples beside real data."""

import math
from pathlib import Path
from typing import Any

from core.files import write_json
from core.report.evaluation import (
    evaluate_map,
    floor_name,
    floor_row,
    measurable,
    samples_to_measure,
    too_few,
)
from core.report.gallery import sample_picture
from core.report.texts import COLUMNS as TEXT_COLUMNS
from core.sampling import SAMPLERS, drawing_of
from core.sampling.usual import usual_grid
from core.train import processes
from core.train.build import Built
from core.train.toml import to_dict
from core.train.tracking import Tracker
from portolan.progress import Meter
from portolan.tables import console, print_table
from portolan.training import Training

COLUMNS = (
    *("data", "sampler", "nfe", "n", "frechet", "accuracy", "w2", "sliced_w2", "mmd", "mmd2", "kl"),
    "map_error",
    *TEXT_COLUMNS,
)


def close(trainer: Training, folder: Path) -> None:
    """The closing pictures and table, and `summary.json`. Every process measures, one writes.

    Of data that are too few to be measured by there are pictures alone, and no rows.
    """
    if processes.first():
        final_pictures(trainer, folder)
    if not measurable(trainer.built.dataset):
        console.print(f"no closing table: {too_few(trainer.built.dataset)}")
        summary: dict[str, Any] = {"step": trainer.step, "reference": {}, "rows": []}
    else:
        summary = closing_table(trainer)
    if not processes.first():
        return
    write_json(folder / "summary.json", summary)
    track_closing(trainer, folder, summary)
    console.print(f"pictures: {folder / 'samples'}")


def track_closing(trainer: Training, folder: Path, summary: dict[str, Any]) -> None:
    """Logs the closing pictures and the table, where the run is logged elsewhere too."""
    config, step = trainer.config, trainer.step
    if config.wandb == "off":
        return
    tracker = Tracker(folder, config.wandb, to_dict(config))
    for nfe in config.evals:
        tracker.picture(step, f"final_{nfe}", folder / "samples" / f"final_{nfe}.png")
    rows = [{"data": "samples", **row} for row in summary["rows"]]
    if rows:
        rows.append({"data": floor_name(trainer.built.dataset), **summary["reference"]})
        tracker.table(step, "closing table", rows)
    tracker.close()


def final_pictures(trainer: Training, folder: Path) -> None:
    """Writes a picture of samples for each number of evaluations of the closing table."""
    built, flow_map = trainer.built, trainer.flow_map()
    for nfe in trainer.config.evals:
        path = folder / "samples" / f"final_{nfe}.png"
        sample_picture(flow_map, built.dataset, path, sampler=built.method.sampler, nfe=nfe)


def closing_table(trainer: Training) -> dict[str, Any]:
    """Measures samples and the floor, prints the table, and returns what `summary.json` has."""
    config, built, flow_map = trainer.config, trainer.built, trainer.flow_map()
    n, features, name = closing_size(built), closing_features(built), built.method.sampler
    grid = usual_grid(built.dataset.spec)
    drawings = [drawing_of(SAMPLERS[name], flow_map.path, nfe, grid=grid) for nfe in config.evals]
    with Meter("evaluating", n * len(drawings)) as meter:
        rows = evaluate_map(
            flow_map,
            built.dataset,
            {name: drawings},
            n=n,
            features=features,
            quick=True,
            coupled=built.couple is not None,
            progress=meter.more,
        )
    reference = floor_row(built.dataset, n, features=features, quick=True)
    shown = [{"data": "samples", **row} for row in rows]
    shown.append({"data": floor_name(built.dataset), **reference})
    print_table(
        f"{config.plugin} on {config.data}: {n} samples, {measure_words(built)}", COLUMNS, shown
    )
    return {"step": trainer.step, "reference": reference, "rows": rows}


def closing_size(built: Built) -> int:
    """Samples a row of the closing table: as many as the data, 2,048 at most, and 512 texts."""
    return samples_to_measure(built.dataset, 512 if built.dataset.kind == "tokens" else 2048)


def measure_words(built: Built) -> str:
    """By what samples of the closing table are compared, in words."""
    space = built.dataset.space
    return "geodesic distances" if space else f"{closing_features(built)} features"


def closing_features(built: Built) -> str:
    """Features of the closing table: pixels up to 1,024 numbers an example, else pooled ones; of
    texts what they say."""
    if built.dataset.kind == "tokens":
        return "text"
    return "pixels" if math.prod(built.dataset.shape) <= 1024 else "pooled"
