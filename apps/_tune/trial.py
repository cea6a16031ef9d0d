"""A trial of `apps.tune`, in its child process: a run that reports its figures on the way."""

import contextlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from apps._compare.child import measure, trained
from apps._compare.plan import Job
from apps._dry_run import step_flops
from core.errors import NotFinite, UserError
from core.files import write_json
from core.methods.registry import find_plugin
from core.report.compare.aggregate import METRICS
from core.report.compare.cell import read_cell
from core.sampling import SAMPLERS, usable
from core.train.cli import parse
from core.train.config import TrainConfig
from core.train.folder import BeingWritten, one_writer
from core.train.teachers import build_run
from core.train.trainer import Dispatch, NonFinite, Trainer
from portolan.training import Training

FILE = "trial.json"


@dataclass
class Report:
    """What a trial has reported so far, as its `trial.json` has it.

    `steps` of its training; `metric` that is compared; `rungs`: by number the step and the figure
    there; `value` the figure at the end, None before; `diverged` says how it ended where a loss or
    a sample was not finite; `seconds` of the machine, compilation and measurements included.
    """

    steps: int = 0
    metric: str = ""
    rungs: dict[str, dict[str, float]] = field(default_factory=dict)
    value: float | None = None
    diverged: str | None = None
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come."""
        return self.value is not None or self.diverged is not None


def read_report(folder: str | Path) -> Report:
    """The report of a trial's folder; an empty one where there is none yet."""
    try:
        return Report(**json.loads((Path(folder) / FILE).read_text("utf-8")))
    except FileNotFoundError:
        return Report()
    except (OSError, ValueError, TypeError) as error:
        where = Path(folder) / FILE
        raise UserError(
            f"{where} is damaged ({type(error).__name__}); move {folder} elsewhere, and the trial "
            "is made again"
        ) from None


def run_trial(job: Job) -> None:
    """Trains and measures; a training that diverges is a result too."""
    config = parse(job.flags)
    with in_turn(config.folder, job.trial["patience"]):
        trial = _Trial(job, config)
        if not trial.report.ended:
            trial.run()


@contextlib.contextmanager
def in_turn(folder: str | Path, patience: float) -> Iterator[None]:
    """`one_writer`, which waits so many seconds for a process that writes the folder still: that of
    a search which was killed is about to leave."""
    with contextlib.ExitStack() as stack:
        until = time.monotonic() + patience
        while True:
            try:
                stack.enter_context(one_writer(folder))
                break
            except BeingWritten:
                if time.monotonic() > until:
                    raise
                time.sleep(1.0)
        yield


class _Trial:
    def __init__(self, job: Job, config: TrainConfig):
        self._folder, self._began = Path(config.folder), time.monotonic()
        self.report = read_report(self._folder)
        self._before = self.report.seconds
        if not self.report.steps:
            self.report.steps = steps_of(job, config)
            self._write()
        steps = self.report.steps
        self._config = replace(config, steps=steps)
        self._job = replace(job, steps=steps, config={**job.config, "steps": steps})
        self._rungs = [math.ceil(share * steps) for share in job.trial["rungs"]]

    def run(self) -> None:
        try:
            trained(self._job, self._config, self._watch)
            cell = read_cell(self._folder)
            assert cell is not None
            self.report.value = self._figure(cell.rows, cell.kind)
        except UserError as error:
            if not (isinstance(error, NotFinite) or isinstance(error.__context__, NonFinite)):
                raise
            self.report.diverged = str(error).partition(";")[0]
        self._write()

    def _watch(self, trainer: Training, done: Dispatch) -> None:
        """Measures the averaged map at a rung, but for one that is the end."""
        numbers = [
            str(number)
            for number, step in enumerate(self._rungs)
            if done.start < step <= done.step < trainer.config.steps
        ]
        if not numbers or all(number in self.report.rungs for number in numbers):
            return
        built, name = trainer.built, trainer.built.method.sampler
        most = find_plugin(self._config.plugin).most_nfe
        nfe = usable(name, SAMPLERS[name], self._job.nfe, most)
        rows = measure(trainer.flow_map(), built, nfe, self._job)["rows"]
        value = self._figure(rows, built.dataset.kind)
        self.report.rungs |= {number: {"step": done.step, "value": value} for number in numbers}
        self._write()

    def _figure(self, rows: Sequence[dict[str, Any]], kind: str) -> float:
        asked = self._job.trial["metric"]
        self.report.metric = METRICS[kind][0] if asked == "auto" else asked
        return figure(rows, self.report.metric)

    def _write(self) -> None:
        self.report.seconds = self._before + time.monotonic() - self._began
        write_json(self._folder / FILE, asdict(self.report))


def figure(rows: Sequence[dict[str, Any]], metric: str) -> float:
    """The geometric mean of a metric over the numbers of evaluations.

    Raises `NotFinite` where one is no number, and `UserError` where the data have no such metric.
    """
    if any(metric not in row for row in rows):
        has = ", ".join(name for names in METRICS.values() for name in names if name in rows[0])
        raise UserError(f"these data have no --metric {metric}; choose from {has}")
    values = [math.nan if row[metric] is None else float(row[metric]) for row in rows]
    if not all(math.isfinite(value) for value in values):
        raise NotFinite(f"a figure ({metric}) is not finite; lower the rate")
    return math.exp(sum(math.log(max(value, 1e-12)) for value in values) / len(values))


def steps_of(job: Job, config: TrainConfig) -> int:
    """The steps that the budget of a trial allows. Raises `UserError` where nobody can count."""
    unit, budget = job.trial["unit"], job.trial["budget"]
    if unit == "steps":
        return config.steps
    each = seconds_a_step(config) if unit == "seconds" else _operations(config)
    if not (math.isfinite(each) and each > 0):
        raise UserError(
            "the compiler for this device counts no operations; give the budget with --unit steps"
        )
    return max(1, round(budget / each))


def _operations(config: TrainConfig) -> float:
    return step_flops(config, build_run(config))[0]


def seconds_a_step(config: TrainConfig) -> float:
    """Seconds of a step of training: the least of three dispatches after the first, which
    compiles."""
    trainer = Trainer(replace(config, steps=4 * config.dispatch), build_run(config))
    return min([done.seconds for done in trainer.run()][1:]) / config.dispatch
