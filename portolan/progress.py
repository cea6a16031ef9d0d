"""Progress of long work: a bar on a terminal, one line that changes in a notebook, a line now and
then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from portolan.tables import console

_SECONDS_BETWEEN_LINES = 10.0


class Meter:
    """A progress bar with a free text beside it, if it is `shown`; use it as a context manager."""

    def __init__(self, what: str, total: int, done: int = 0, shown: bool = True):
        self._what, self._total, self._done, self._shown = what, total, done, shown
        self._bar: Progress | None = None
        self._last = time.monotonic()
        if shown and console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=28),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            self._task = self._bar.add_task(what, total=total, completed=done, note="")

    def __enter__(self) -> "Meter":
        if self._bar is not None:
            self._bar.start()
        self._began, self._first = time.monotonic(), self._done
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def to(self, done: int, note: str = "") -> None:
        """Sets the number of finished pieces and the text."""
        self._done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done, note=note)
        elif self._shown and self._is_due():
            self._last = time.monotonic()
            self._say(f"{self._what} {done}/{self._total}  {note}  {self._left()} left")

    def _say(self, line: str) -> None:
        if not console.is_jupyter:
            console.print(line)
        elif not console.quiet:  # written over the last one; what the console prints would stay
            print(f"\r{line:<120}", end="\n" if self._done >= self._total else "", flush=True)

    def _is_due(self) -> bool:
        late = time.monotonic() - self._last > _SECONDS_BETWEEN_LINES
        return late or self._done >= self._total

    @property
    def done(self) -> int:
        """The number of finished pieces."""
        return self._done

    def more(self, count: int) -> None:
        """Adds finished pieces."""
        self.to(self._done + count)

    def _left(self) -> str:
        passed = time.monotonic() - self._began
        rest = passed * (self._total - self._done) / max(self._done - self._first, 1)
        return f"{int(rest) // 60}:{int(rest) % 60:02d}"


@contextmanager
def if_long(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function of `(done, of)` whose meter is there from its first call on, if there is one."""
    with ExitStack() as stack:
        meters: list[Meter] = []

        def to(done: int, total: int) -> None:
            if not meters:
                meters.append(stack.enter_context(Meter(what, total)))
            meters[0].to(done)

        yield to
