"""Child processes, a few at a time; each has a log, its share of the cores, and a tidy end."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from apps._compare.plan import Job
from portolan.signals import StopRequest

_PAUSE = 0.2


@dataclass(frozen=True)
class Child:
    """A running child process, and where its part of the log begins."""

    job: Job
    process: subprocess.Popen[bytes]
    log: Path
    begins: int

    def complaint(self) -> str | None:
        """None for a child that ended well, else the last line of its error output."""
        status = self.process.returncode
        if status == 0:
            return None
        with self.log.open("rb") as file:
            file.seek(self.begins)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
        said = [line for line in lines if line.startswith("error: ")] or [x for x in lines if x]
        killed = f"killed by signal {-status}" if status < 0 else ""
        return killed or (said[-1].removeprefix("error: ") if said else f"exit status {status}")


def run_jobs(
    jobs: Iterable[Job],
    width: int,
    stop: StopRequest,
    ended: Callable[[Job, str | None], None],
    tick: Callable[[list[Job]], None],
) -> None:
    """Runs jobs in their order, `width` at a time.

    `ended` is called with each job and its error, or None; `tick` again and again with the
    jobs that run. After a stop request the children save and leave, and `ended` is not called for
    them.
    """
    waiting, running, stopped = deque(jobs), dict[int, Child](), False
    try:
        while running or (waiting and stop.number is None):
            for slot in range(width):
                if slot not in running and waiting and stop.number is None:
                    running[slot] = _start(waiting.popleft(), slot, width)
            if stop.number is not None and not stopped:
                _terminate(running.values())
                stopped = True
            time.sleep(_PAUSE)
            tick([child.job for child in running.values()])
            for slot, child in list(running.items()):
                if child.process.poll() is not None:
                    del running[slot]
                    if stop.number is None or child.process.returncode == 0:
                        ended(child.job, child.complaint())
    finally:
        _terminate(running.values())


def _terminate(children: Iterable[Child]) -> None:
    for child in children:
        child.process.terminate()


def _start(job: Job, slot: int, width: int) -> Child:
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
        return Child(job, process, log, begins)


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
