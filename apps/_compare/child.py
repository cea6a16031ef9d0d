"""A child process of `apps.compare`: `python -m apps._compare.child DIR/job.json`.

It trains a run as `apps.train` does, measures it and writes `cell.json`; or it counts the
operations of one step and writes `cost.json`.
"""

import json
import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from apps._closing import closing_features
from apps._compare.files import EXAMPLES
from apps._compare.plan import Job
from apps._dry_run import step_flops
from apps._main import launch
from core.data.dataset import Dataset
from core.data.record import recorded
from core.files import write_arrays, write_json
from core.flow.flow_map import FlowMap
from core.methods.registry import find_plugin
from core.report.compare import Cell
from core.report.compare.cell import FILE, read_cell
from core.report.evaluation import check_measurable, evaluate_map, floor_row, samples_to_measure
from core.report.gallery import MOST_COLUMNS, sample_picture
from core.report.versions import versions
from core.sampling import SAMPLERS, check_sampler, drawing_of, usable
from core.sampling.usual import usual_grid
from core.train.build import Built
from core.train.checkpoint import Checkpoints
from core.train.claim import claim
from core.train.cli import parse
from core.train.config import TrainConfig
from core.train.folder import one_writer
from core.train.run import read_config
from core.train.teachers import build_run
from core.train.trainer import Dispatch, Trainer
from portolan.progress import Meter
from portolan.training import Training, train

Watch = Callable[[Training, Dispatch], None]


def unwatched(trainer: Training, done: Dispatch) -> None:
    """Nothing."""


def main(argv: list[str]) -> None:
    """Does the job of a `job.json`."""
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    job = Job(**json.loads(Path(argv[0]).read_text("utf-8")))
    if job.what == "trial":
        from apps._tune.trial import run_trial

        run_trial(job)
    else:
        (_count if job.what == "cost" else _run)(job)


def _leave_with(parent: int) -> None:
    """Stops this process, as SIGTERM does, when the process that started it is gone."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), signal.SIGTERM)


def _count(job: Job) -> None:
    config = parse(job.flags)
    flops, loop = step_flops(config, build_run(config))
    cost = {"config": job.config, "flops": flops, "loop": loop}
    write_json(Path(job.folder) / "cost.json", cost)


def _run(job: Job) -> None:
    config = parse(job.flags)
    with one_writer(config.folder):
        trained(job, config)


def trained(job: Job, config: TrainConfig, watch: Watch = unwatched) -> None:
    """Trains a run, measures it, and writes its pictures and `cell.json`; `watch` is called after
    each dispatch."""
    built = build_run(config)
    check_measurable(built.dataset)
    name = built.method.sampler
    check_sampler(name, SAMPLERS[name], built.method.flow_map)
    nfe = usable(name, SAMPLERS[name], job.nfe, find_plugin(config.plugin).most_nfe)
    trainer = Trainer(config, built)
    folder = claim(config, recorded(built.dataset), base=built.base())
    checkpoints = Checkpoints(folder, config.keep)
    train(trainer, checkpoints, folder, "train", watch=partial(watch, trainer))
    checkpoints.close()
    flow_map, step = trainer.flow_map(), trainer.step
    del trainer
    figures = measure(flow_map, built, nfe, job)
    write_json(folder / "summary.json", {"step": step, **_rows_of(figures)})
    draw(flow_map, built, nfe, folder)
    flops, loop = step_flops(config, built)
    cell = Cell(
        plugin=job.label,
        family=find_plugin(config.plugin).card.family,
        sampler=name,
        seed=config.seed,
        config=job.config,
        shared=job.shared,
        kind=built.dataset.kind,
        steps=config.steps,
        batch=config.batch,
        parameters=built.num_parameters(),
        seconds=training_seconds(folder, config),
        flops=flops if math.isfinite(flops) else None,
        loop=loop,
        teacher=teacher_cost(config),
        nfe=job.nfe,
        versions=versions(),
        **figures,
    )
    write_json(folder / FILE, cell.to_json())


def measure(flow_map: FlowMap, built: Built, nfe: list[int], job: Job) -> dict[str, Any]:
    """The quick metrics at each number of evaluations, and those of the real data."""
    dataset = built.dataset
    n = job.n or samples_to_measure(dataset)
    features, name = closing_features(built), built.method.sampler
    grid = usual_grid(dataset.spec)
    drawings = [drawing_of(SAMPLERS[name], flow_map.path, count, grid=grid) for count in nfe]
    with Meter("evaluating", n * len(drawings)) as meter:
        rows = evaluate_map(
            flow_map,
            dataset,
            {name: drawings},
            n=n,
            features=features,
            quick=True,
            coupled=built.couple is not None,
            progress=meter.more,
        )
    figures = {"n": n, "features": features, "rows": rows}
    return {**figures, "reference": _reference(dataset, n, features, job)}


def _reference(dataset: Dataset, n: int, features: str, job: Job) -> dict[str, Any]:
    """The floor: measured by the first run of a comparison, and read by the others."""
    path, asked = Path(job.folder).parent / "reference.json", [job.shared, n, features]
    try:
        found = json.loads(path.read_text("utf-8"))
        if found["of"] == asked:
            return found["row"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    row = floor_row(dataset, n, features=features, quick=True)
    write_json(path, {"of": asked, "row": row})
    return row


def _rows_of(figures: dict[str, Any]) -> dict[str, Any]:
    return {"reference": figures["reference"], "rows": figures["rows"]}


def draw(flow_map: FlowMap, built: Built, nfe: list[int], folder: Path) -> None:
    """Writes the run's last pictures, and a few samples and examples for the common page."""
    dataset = built.dataset
    kept = {"data": examples(dataset)}
    for count in nfe:
        path = folder / "samples" / f"final_{count}.png"
        samples = sample_picture(flow_map, dataset, path, sampler=built.method.sampler, nfe=count)
        kept[f"nfe_{count}"] = shown(dataset, samples[: len(kept["data"])])
    write_arrays(folder / EXAMPLES, kept)


def examples(dataset: Dataset) -> np.ndarray:
    """Real data as the samples are shown: 2,000 points, or one image a class (or the first ten)."""
    if dataset.kind == "points":
        index = np.arange(min(len(dataset), 2000))
    elif dataset.num_classes and dataset.labels is not None:
        classes = range(min(dataset.num_classes, MOST_COLUMNS))
        index = np.asarray([np.argmax(dataset.labels == label) for label in classes])
    else:
        index = np.arange(min(len(dataset), MOST_COLUMNS))
    return shown(dataset, np.asarray(dataset.decode(dataset.take(index))))


def shown(dataset: Dataset, x: np.ndarray) -> np.ndarray:
    """Network values as the common page shows them: text as strings."""
    return np.array(dataset.spec.texts(x)) if dataset.kind == "tokens" else dataset.encode(x)


def training_seconds(folder: Path, config: TrainConfig) -> float:
    """Seconds of the whole training at the median speed of its log: no compilation, no pauses."""
    lines = [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    ]
    return config.steps * config.batch / statistics.median(x["samples_per_second"] for x in lines)


def teacher_cost(config: TrainConfig) -> dict[str, Any] | None:
    """The cost of training the teacher of a run; nothing where it is exact."""
    if config.teacher is None:
        return None
    if config.teacher == "exact":
        return {"run": "exact", "samples": 0, "flops": 0.0}
    folder = Path(config.teacher)
    if not (folder / "config.toml").exists():  # a model folder, or code: nobody knows its training
        return {"run": config.teacher, "samples": None, "flops": None}
    taught, cell = read_config(folder), read_cell(folder)
    flops = None if cell is None else cell.total_flops
    return {"run": config.teacher, "samples": taught.steps * taught.batch, "flops": flops}


if __name__ == "__main__":
    launch(main)
