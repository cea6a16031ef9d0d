"""Trains a method on a data set: `python -m apps.train --plugin imf`."""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from apps._dry_run import describe, dry_run
from apps._main import launch
from apps._progress import Meter
from apps._signals import StopRequest
from apps._table import console, print_table
from core.errors import UserError
from core.evaluation import evaluate_map, floor_row
from core.gallery import sample_picture
from core.sampling import SAMPLERS, check_sampler
from core.train.build import Built
from core.train.checkpoint import Checkpoints
from core.train.cli import parse
from core.train.config import TrainConfig
from core.train.journal import Journal
from core.train.run import build_run, claim
from core.train.toml import to_dict
from core.train.trainer import Dispatch, NonFinite, Trainer

COLUMNS = ("data", "sampler", "nfe", "n", "frechet", "accuracy", "w2", "sliced_w2", "map_error")
MOST_ROLLBACKS = 5


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains, or goes on with an interrupted run, and ends with pictures and a table."""
    config = parse(argv)
    built = build_run(config)
    if config.dry_run:
        return dry_run(config, built)
    preflight(config, built)
    trainer = Trainer(config, built)
    folder = claim(config)
    checkpoints = Checkpoints(folder, config.keep)
    seconds, rate = train(trainer, checkpoints, folder)
    checkpoints.close()
    close(trainer, folder)
    result = {"run": str(folder), "step": trainer.step}
    result |= {"seconds": round(seconds, 2), "samples_per_second": round(rate, 1)}
    return result if config.json else None


def preflight(config: TrainConfig, built: Built) -> None:
    """Raises `UserError` for what the closing table could not do, before anything is trained."""
    name = built.method.sampler
    check_sampler(name, SAMPLERS[name], built.method.flow_map)
    for nfe in config.evals:
        SAMPLERS[name].steps(nfe)


def train(trainer: Trainer, checkpoints: Checkpoints, folder: Path) -> tuple[float, float]:
    """Trains to the end. Returns the seconds and samples a second of this call."""
    config, start = trainer.config, checkpoints.latest()
    if start is not None:
        trainer.restore(checkpoints, start)
        console.print(f"going on with {folder} from step {start}")
    else:
        trainer.save(checkpoints)
    for line in describe(config, trainer.built):
        console.print(line)
    if trainer.step >= config.steps:
        console.print(f"{folder} is complete; --restart trains it anew")
        return 0.0, 0.0
    began, first = time.perf_counter(), trainer.step
    journal = Journal(folder, trainer.step, config.wandb, to_dict(config))
    with Meter("training", config.steps, trainer.step) as meter:
        _train(trainer, checkpoints, folder, journal, meter)
    journal.close()
    seconds = time.perf_counter() - began
    return seconds, (trainer.step - first) * config.batch / seconds


def _train(
    trainer: Trainer, checkpoints: Checkpoints, folder: Path, journal: Journal, meter: Meter
) -> None:
    with StopRequest() as stop:
        while trainer.step < trainer.config.steps:
            try:
                for dispatch in trainer.run():
                    _after(dispatch, trainer, checkpoints, folder, journal, meter)
                    if stop.number is not None:
                        _leave(trainer, checkpoints, folder, stop)
            except NonFinite as bad:
                _on_non_finite(bad, trainer, checkpoints, folder)
                journal.rewind(trainer.step)


def _after(
    dispatch: Dispatch,
    trainer: Trainer,
    checkpoints: Checkpoints,
    folder: Path,
    journal: Journal,
    meter: Meter,
) -> None:
    config = trainer.config
    rate = (dispatch.step - dispatch.start) * config.batch / dispatch.seconds
    raw = "  ".join(
        f"{name.split('/')[0]} {value:.3f}"
        for name, value in dispatch.metrics.items()
        if name.endswith("/residual")
    )
    meter.to(dispatch.step, f"loss {dispatch.metrics['loss']:.3f}  {raw}  {rate:,.0f} samples/s")
    if dispatch.crosses(config.log_every):
        journal.write(dispatch.step, {**dispatch.metrics, "samples_per_second": rate})
    if dispatch.crosses(config.sample_every):
        picture(trainer, folder / "samples" / f"step_{dispatch.step:07d}.png")
    if dispatch.crosses(config.save_every) or dispatch.step == config.steps:
        trainer.save(checkpoints)


def _leave(trainer: Trainer, checkpoints: Checkpoints, folder: Path, stop: StopRequest) -> None:
    trainer.save(checkpoints)
    checkpoints.close()
    console.print(
        f"stopped and saved at step {trainer.step}; go on with: "
        f"python -m apps.train --config {folder}/config.toml --run {folder}"
    )
    sys.exit(stop.exit_status)


def _on_non_finite(
    bad: NonFinite, trainer: Trainer, checkpoints: Checkpoints, folder: Path
) -> None:
    last = checkpoints.latest()
    if trainer.config.on_nan == "stop":
        raise UserError(
            f"{bad}; the last good checkpoint is {folder}/checkpoints/{last}; lower --optim.rate, "
            "or skip such batches with --on-nan rollback"
        )
    if int(trainer.state.rollbacks) >= MOST_ROLLBACKS:
        raise UserError(
            f"{bad}, after {MOST_ROLLBACKS} rollbacks; the last good checkpoint is "
            f"{folder}/checkpoints/{last}; lower --optim.rate"
        )
    trainer.roll_back(checkpoints, bad)
    console.print(f"{bad}: went back to step {last}, and the batch is left out")


def picture(trainer: Trainer, path: Path) -> None:
    """Writes the picture of the averaged map's samples."""
    name = trainer.built.method.sampler
    nfe = SAMPLERS[name].preview
    sample_picture(trainer.flow_map(), trainer.built.dataset, path, sampler=name, nfe=nfe)


def close(trainer: Trainer, folder: Path) -> None:
    """The closing table and pictures, and `summary.json`."""
    config, built = trainer.config, trainer.built
    flow_map, n = trainer.flow_map(), closing_size(built)
    features = closing_features(built)
    with Meter("evaluating", n * len(config.evals)) as meter:
        rows = evaluate_map(
            flow_map,
            built.dataset,
            {built.method.sampler: SAMPLERS[built.method.sampler]},
            config.evals,
            n=n,
            features=features,
            quick=True,
            progress=meter.more,
        )
    reference = floor_row(built.dataset, n, features=features, quick=True)
    for nfe in config.evals:
        path = folder / "samples" / f"final_{nfe}.png"
        sample_picture(flow_map, built.dataset, path, sampler=built.method.sampler, nfe=nfe)
    summary = {"step": trainer.step, "reference": reference, "rows": rows}
    (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    shown = [{"data": "samples", **row} for row in rows]
    shown.append({"data": "real against real", **reference})
    print_table(
        f"{config.plugin} on {config.data}: {n} samples, {features} features", COLUMNS, shown
    )
    console.print(f"pictures: {folder / 'samples'}")


def closing_size(built: Built) -> int:
    """Samples a row of the closing table: as many as the data, 2,048 at most."""
    return min(len(built.dataset), 2048)


def closing_features(built: Built) -> str:
    """Features of the closing table: pixels up to 1,024 numbers an example, else pooled ones."""
    return "pixels" if math.prod(built.dataset.shape) <= 1024 else "pooled"


if __name__ == "__main__":
    launch(main)
