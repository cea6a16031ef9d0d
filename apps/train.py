"""Trains a method on a data set: `python -m apps.train --plugin imf`."""

from typing import Any

from apps._dry_run import dry_run
from apps._main import join, launch
from core.train import processes
from core.train.build import Built
from core.train.cli import parse
from core.train.config import TrainConfig
from core.train.folder import one_writer
from core.train.teachers import build_run
from portolan.progress import if_long
from portolan.training import run_to_end


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains, or goes on with an interrupted run, and ends with pictures and a table."""
    config = parse(argv)
    join(config.cluster)
    if config.dry_run:
        return dry_run(config, _built(config))
    with one_writer(config.folder):
        run = run_to_end(config, _built(config), "train")
        from apps._closing import close  # with the metrics

        close(run.trainer, run.folder)
    result = {"run": str(run.folder), "step": run.trainer.step}
    result |= {"seconds": round(run.seconds, 2), "samples_per_second": round(run.rate, 1)}
    return result if config.json and processes.first() else None


def _built(config: TrainConfig) -> Built:
    with if_long("pairs of the teacher") as progress:
        return build_run(config, progress)


if __name__ == "__main__":
    launch(main)
