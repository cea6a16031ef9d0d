"""Child processes, a few at a time; each has a log, its share of the cores, and a tidy end."""

import abc
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from apps._compare.plan import Job
from portolan.signals import StopRequest

_PAUSE = 0.2


class Child(abc.ABC):
    """A job that runs: in a process of this machine, or on another one."""

    job: Job

    @abc.abstractmethod
    def ended(self) -> bool:
        """Whether it runs no more."""

    @abc.abstractmethod
    def complaint(self) -> str | None:
        """Of a child that has ended: None where all went well, else what it said."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Asks it to save itself and leave."""


class Engine(abc.ABC):
    """Where jobs run."""

    @abc.abstractmethod
    def start(self, job: Job, slot: int, width: int) -> Child:
        """Starts a job, the one number `slot` of `width` that run side by side."""


@dataclass(frozen=True)
class LocalChild(Child):
    """A child process, and where its part of the log begins."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    begins: int

    def ended(self) -> bool:
        return self.process.poll() is not None

    def complaint(self) -> str | None:
        status = self.process.returncode
        return None if status == 0 else complaint(self.log, self.begins, status)

    def stop(self) -> None:
        self.process.terminate()


class Local(Engine):
    """Child processes of this one."""

    def start(self, job: Job, slot: int, width: int) -> Child:
        path = job.write()
        log = path.with_name("log.txt")
        begins = log.stat().st_size if log.exists() else 0
        with log.open("ab") as file, _Cores(slot, width):
            process = subprocess.Popen(
                _command(path),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which passes it on once
            )
            return LocalChild(job, process, log, begins)


def complaint(log: Path, begins: int, status: int) -> str:
    """Why a child failed: the signal that ended it, else the last line of its error output."""
    if status < 0:
        return f"killed by signal {-status}"
    with log.open("rb") as file:
        file.seek(begins)
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    said = [line for line in lines if line.startswith("error: ")] or [x for x in lines if x]
    return said[-1].removeprefix("error: ") if said else f"exit status {status}"


def run_jobs(
    jobs: Iterable[Job],
    width: int,
    stop: StopRequest,
    ended: Callable[[Job, str | None], None],
    tick: Callable[[list[Job]], Collection[Job] | None],
    engine: Engine | None = None,
) -> None:
    """Runs jobs in their order, `width` at a time; each is asked for when there is room for it.

    `ended` is called with each job and its error, or None; `tick` again and again with the
    jobs that run, and returns those that are to be stopped. After a stop request the children save
    and leave, and `ended` is not called for them.
    """
    engine = engine or Local()
    waiting, running, stopped, asked = iter(jobs), dict[int, Child](), False, True
    try:
        while True:
            for slot in range(width):
                if slot not in running and asked and stop.number is None:
                    job = next(waiting, None)
                    asked = job is not None
                    if job is not None:
                        running[slot] = engine.start(job, slot, width)
            if not running:
                break
            if stop.number is not None and not stopped:
                _stop(running.values())
                stopped = True
            time.sleep(_PAUSE)
            left = tick([child.job for child in running.values()]) or ()
            _stop(child for child in running.values() if child.job in left)
            for slot, child in list(running.items()):
                if child.ended():
                    del running[slot]
                    if stop.number is None or child.complaint() is None:
                        ended(child.job, child.complaint())
    finally:
        _stop(running.values())


def _stop(children: Iterable[Child]) -> None:
    for child in children:
        child.stop()


def _command(path: Path) -> list[str]:
    return [sys.executable, "-m", "apps._compare.child", str(path)]


class _Cores:
    """Inside, processes started by this thread have the cores of one slot, where the system can."""

    def __init__(self, slot: int, width: int):
        self._slot, self._width = slot, width

    def __enter__(self) -> None:
        self._all = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        if self._width > 1 and self._all:
            cores = sorted(self._all)
            share = cores[self._slot :: self._width] or [cores[self._slot % len(cores)]]
            os.sched_setaffinity(0, share)

    def __exit__(self, *error: object) -> None:
        if self._all:
            os.sched_setaffinity(0, self._all)
