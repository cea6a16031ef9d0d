"""SIGTERM and Ctrl-C: finish the dispatch at hand, save, exit."""

import signal
from types import FrameType


class StopRequest:
    """Notes the first SIGTERM or SIGINT; a second one ends the program at once."""

    def __init__(self):
        self.number: int | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        self.number = number
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_DFL)

    @property
    def exit_status(self) -> int:
        """128 + the signal's number, as a shell reports it."""
        return 128 + (self.number or 0)
