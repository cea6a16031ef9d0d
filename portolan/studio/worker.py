"""One thread that computes, one job at a time; a newer request of a panel replaces the older."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

WAITING = 32
"""Jobs that wait at most."""
REMEMBERED = 1024
"""Panels whose newest request is remembered; those that were asked longest ago are forgotten."""


class OutOfDate(Exception):
    """A newer request of the same panel has come."""


class Busy(Exception):
    """Too many requests wait already."""


class Closed(Exception):
    """The worker has ended."""


@dataclass(frozen=True, eq=False)
class _Job:
    work: Callable[[], Any]
    future: Future


def _refuse(job: _Job, error: Exception) -> None:
    """Ends a job that has not begun; whoever asked may have gone, which cancels its future."""
    if job.future.set_running_or_notify_cancel():
        job.future.set_exception(error)


class Worker:
    """Runs jobs in a thread of its own, in the order in which they came.

    Programs of JAX are so compiled and run by one thread, and a page that asks faster than it can
    be answered never has more than one request in the row.
    """

    def __init__(self):
        self._change = threading.Condition()
        self._waiting: OrderedDict[Hashable, _Job] = OrderedDict()
        self._newest: OrderedDict[Hashable, int] = OrderedDict()
        self._later: deque[Callable[[], Any]] = deque(maxlen=WAITING)
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="studio", daemon=True)
        self._thread.start()

    def ask(self, panel: Hashable, number: int | None, work: Callable[[], Any]) -> Future:
        """The future result of `work()`.

        Of one `panel` requests have rising numbers, and only the newest is of use: one that waits
        is dropped when a newer comes, and its future raises `OutOfDate`. `number` None is a
        request of no panel. Raises `OutOfDate`, `Busy` or `Closed` where it is not taken.
        """
        job = _Job(work, Future())
        with self._change:
            if self._closed:
                raise Closed
            key: Hashable = job if number is None else ("panel", panel)
            if number is not None and number <= self._newest.get(panel, -1):
                raise OutOfDate
            if len(self._waiting) - (key in self._waiting) >= WAITING:
                raise Busy
            if number is not None:
                self._remember(panel, number)
            before = self._waiting.pop(key, None)
            self._waiting[key] = job
            self._change.notify()
        if before is not None:
            _refuse(before, OutOfDate())
        return job.future

    def later(self, work: Callable[[], Any]) -> None:
        """Runs `work()` when nothing else is to do; nobody hears of its result, or of its error."""
        with self._change:
            self._later.append(work)
            self._change.notify()

    def _remember(self, panel: Hashable, number: int) -> None:
        self._newest[panel] = number
        self._newest.move_to_end(panel)
        while len(self._newest) > REMEMBERED:
            self._newest.popitem(last=False)

    def close(self) -> None:
        """Ends the thread after the job at hand; those that wait raise `Closed`."""
        with self._change:
            self._closed = True
            left = list(self._waiting.values())
            self._waiting.clear()
            self._change.notify()
        for job in left:
            _refuse(job, Closed())

    def _run(self) -> None:
        while True:
            with self._change:
                while not (self._waiting or self._later or self._closed):
                    self._change.wait()
                if self._closed:
                    return
                if self._waiting:
                    _, job = self._waiting.popitem(last=False)
                else:
                    job = _Job(self._later.popleft(), Future())
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(job.work())
            except BaseException as error:
                job.future.set_exception(error)
