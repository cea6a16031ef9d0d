"""SIGTERM and Ctrl-C: finish the dispatch at hand, save, exit."""

import signal
import threading
from types import FrameType

NUMBERS = (signal.SIGTERM, signal.SIGINT)


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
