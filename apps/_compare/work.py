"""The work of a comparison, in its order: teacher, counts of operations, runs."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from apps._compare.plan import Job, Plan
from apps._compare.pool import Engine, run_jobs
from apps._compare.settings import CompareConfig
from core.report.compare import metrics_of
from core.report.compare.cell import read_cell
from core.train.journal import last_step
from portolan.progress import Meter
from portolan.signals import StopRequest
from portolan.tables import cell as shown
from portolan.tables import console

_SECONDS_BETWEEN_LINES = 60.0


def train_all(settings: CompareConfig, plan: Plan) -> list[str]:
    """Does all jobs that are not finished. Returns the names of those that failed.

    Ctrl-C and SIGTERM let the runs save themselves, and end the program.
    """
    with StopRequest() as stop:
        work = Work(settings.jobs, stop)
        teacher = plan.teacher()
        if teacher is not None and not work.do("teacher", [teacher]):
            work.failed += plan.drop_taught()
            console.print("without a teacher these are left out: " + ", ".join(work.failed[1:]))
        work.do("operations", plan.costs())
        work.do("runs", plan.runs())
    return work.failed


class Work:
    """Jobs done side by side, `width` of them, with progress; `failed` has the names of those that
    failed."""

    def __init__(self, width: int, stop: StopRequest, engine: Engine | None = None):
        self._width, self._stop, self._engine = width, stop, engine
        self.failed: list[str] = []

    def do(self, what: str, jobs: Sequence[Job]) -> bool:
        """Does the jobs that are not finished; returns whether all went well."""
        todo = [job for job in jobs if not job.finished]
        if len(todo) < len(jobs):
            console.print(f"{what}: {len(jobs) - len(todo)} of {len(jobs)} are there already")
        if not todo:
            return True
        before = len(self.failed)
        with Meter(what, sum(map(_size, todo))) as meter:
            watch = _Watch(meter, len(todo))

            def ended(job: Job, complaint: str | None) -> None:
                watch.ended(job)
                if complaint is not None:
                    self.failed.append(job.name)
                console.print(_line(job, complaint), soft_wrap=True, markup=False)

            run_jobs(todo, self._width, self._stop, ended, watch.tick, self._engine)
        if self._stop.number is not None:
            console.print("stopped; finished runs are kept, and the same command goes on")
            sys.exit(self._stop.exit_status)
        return len(self.failed) == before


class _Watch:
    """Brings the meter up to date with the finished jobs and the logs of those that run."""

    def __init__(self, meter: Meter, count: int):
        self._meter, self._count, self._done, self._finished = meter, count, 0, 0
        self._last = time.monotonic()

    def ended(self, job: Job) -> None:
        """Counts a job as done."""
        self._done, self._finished = self._done + _size(job), self._finished + 1

    def tick(self, running: list[Job]) -> None:
        """Shows the running jobs, at most once a second on a terminal, once a minute elsewhere."""
        pause = 1.0 if console.is_terminal else _SECONDS_BETWEEN_LINES
        if not running or time.monotonic() - self._last < pause:
            return
        self._last = time.monotonic()
        partly = sum(last_step(Path(job.folder)) for job in running if job.what == "run")
        names = ", ".join(job.name for job in running)
        self._meter.to(self._done + partly, f"{self._finished} of {self._count} done; {names}")


def _size(job: Job) -> int:
    """A job's share of the progress: training steps, or one."""
    return job.steps if job.what == "run" else 1


def _line(job: Job, complaint: str | None) -> str:
    """The line that reports a job that has ended."""
    if complaint is not None:
        return f"{job.name} failed: {complaint} (log: {job.folder}/log.txt)"
    cell = read_cell(Path(job.folder)) if job.what == "run" else None
    if cell is None:
        return f"{job.name}: counted"
    name = metrics_of([cell])[0]
    figures = ", ".join(f"{shown(row[name])} ({row['nfe']})" for row in cell.rows)
    return f"{job.name}: {name} (evaluations) {figures}; trained in {cell.seconds:,.0f} s"
