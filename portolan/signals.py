"""SIGTERM and Ctrl-C: save and exit after the dispatch at hand; elsewhere stop, in one line."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Stopped(KeyboardInterrupt):
    """A signal that ends the program where it stands."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def stopping() -> Iterator[None]:
    """Inside, the first SIGTERM or SIGINT raises `Stopped`, but for the time of a `StopRequest`; a
    second one ends the program."""

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        for each in NUMBERS:
            signal.signal(each, signal.SIG_DFL)
        raise Stopped(number)

    here = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, stop) for number in NUMBERS if here}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StopRequest:
    """Notes the first SIGTERM or SIGINT inside the `with`; a second one ends the program.

    In a thread other than the main one it does nothing: signals come to the main one alone.
    """

    def __init__(self):
        self.number: int | None = None

    def __enter__(self) -> "StopRequest":
        here = threading.current_thread() is threading.main_thread()
        self._before = {number: signal.signal(number, self._note) for number in NUMBERS if here}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        for each in NUMBERS:
            signal.signal(each, signal.SIG_DFL)

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as a shell reports it."""
        return 128 + (self.number or 0)
