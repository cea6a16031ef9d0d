"""The log of a run: metrics as JSON lines, and Weights & Biases where asked."""

import json
import math
from pathlib import Path
from typing import Any

from core.files import write_text
from core.train.tracking import Tracker


class Journal:
    """Appends one JSON object a line to `metrics.jsonl`.

    On opening, lines of steps after `start` are dropped: an interrupted run had written them
    after its last checkpoint, and will write them again. A number that is not finite is written as
    null, since JSON has no NaN.
    """

    def __init__(self, folder: Path, start: int, wandb: str = "off", config: Any = None):
        self.path = folder / "metrics.jsonl"
        self._keep_until(start)
        self._file = self.path.open("a", encoding="utf-8")
        self._tracker = Tracker(folder, wandb, config or {}) if wandb != "off" else None

    def _keep_until(self, start: int) -> None:
        if not self.path.exists():
            return
        kept = [
            line
            for line in self.path.read_text("utf-8", "replace").splitlines()
            if _step_of(line) <= start
        ]
        write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes the metrics of one step."""
        line = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        self._file.write(json.dumps({"step": step, **line}) + "\n")
        self._file.flush()
        if self._tracker is not None:
            self._tracker.log(step, metrics)

    def picture(self, step: int, path: Path) -> None:
        """Logs the picture of a step, where pictures are logged."""
        if self._tracker is not None:
            self._tracker.picture(step, "samples", path)

    def rewind(self, step: int) -> None:
        """Drops the lines after a step, when the run goes back to it."""
        self._file.close()
        self._keep_until(step)
        self._file = self.path.open("a", encoding="utf-8")

    def close(self) -> None:
        """Closes the file and the Weights & Biases run."""
        self._file.close()
        if self._tracker is not None:
            self._tracker.close()


class NoJournal:
    """The journal of a process that writes none."""

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Nothing."""

    def picture(self, step: int, path: Path) -> None:
        """Nothing."""

    def rewind(self, step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


def last_step(folder: Path) -> int:
    """The step of the last whole line in a run's `metrics.jsonl`; 0 before there is one."""
    try:
        text = (folder / "metrics.jsonl").read_text("utf-8", "replace")
        steps = [_step_of(line) for line in text.splitlines()]
    except OSError:
        return 0
    return int(max((step for step in steps if step < math.inf), default=0))


def _step_of(line: str) -> float:
    """The step of a line; infinite for one that was cut while it was written."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
