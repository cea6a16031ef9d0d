"""The panel Training: what a run writes while it goes on, as its files say it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError, require
from core.files import inside
from core.train.folder import is_written
from portolan.studio.fields import SEED, Fields
from portolan.studio.session import Opened, Session
from portolan.studio.views import Shown

AT_ONCE = 2**21
"""Bytes of `metrics.jsonl` in one answer, at most; the next request goes on behind them."""
PICTURE = 2**24
"""Bytes of a picture, at most."""
_PICTURES = re.compile(r"(step|final)_(\d{1,12})\.png")


def follow(session: Session, fields: Fields) -> Shown:
    """The lines of a run's log from the byte `place` on: `steps`, and a list for each figure, with
    null where a line lacks it; which pictures there are, and what checkpoint is the newest.

    A log that is shorter than `place` was written again: `again` says that it begins again.
    """
    run = session.run(fields.whole("run", 0, SEED))
    place = fields.whole("place", 0, 2**53, 0)
    data, place, again = _read(run.folder / "metrics.jsonl", place)
    rows = [row for line in data.splitlines() if (row := _row(line)) is not None]
    names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    said = {
        "name": run.name,
        "place": place,
        "again": again,
        "steps": [row["step"] for row in rows],
        "figures": {name: [row.get(name) for row in rows] for name in names},
        "pictures": [name for name, _ in pictures(run.folder)],
        "checkpoint": newest_checkpoint(run.folder),
        "going": is_written(run.folder),
        "done": (run.folder / "summary.json").is_file(),
    }
    return Shown(said=said)


def picture(session: Session, fields: Fields) -> Shown:
    """The bytes of one of a run's pictures, a PNG, by its place in the list of `follow`."""
    run = session.run(fields.whole("run", 0, SEED))
    found = pictures(run.folder)
    require(len(found) > 0, f"{run.name} has no pictures yet")
    _, path = found[fields.whole("index", 0, len(found) - 1)]
    with path.open("rb") as stream:
        data = stream.read(PICTURE + 1)
    require(len(data) <= PICTURE, f"{path.name} is larger than {PICTURE:,} bytes")
    return Shown({"png": np.frombuffer(data, np.uint8)})


def reload(run: Opened, fields: Fields) -> Shown:
    """Opens the newest checkpoint of a run in the place of the one that was opened."""
    del fields
    run.reload()
    return Shown(said={"step": run.model.step})


def pictures(folder: Path) -> list[tuple[str, Path]]:
    """The pictures of a run, those of steps first, by what they show."""
    place = folder / "samples"
    if not place.is_dir():
        return []
    found = []
    for path in place.iterdir():
        match = _PICTURES.fullmatch(path.name)
        if match and path.is_file():
            kind, number = match[1], int(match[2])
            words = f"step {number:,}" if kind == "step" else f"the end, {number} evaluations"
            found.append(((kind != "step", number), words, inside(folder, "samples", path.name)))
    return [(words, path) for _, words, path in sorted(found)]


def newest_checkpoint(folder: Path) -> int | None:
    """The step of the newest checkpoint; None where there is none."""
    place = folder / "checkpoints"
    if not place.is_dir():
        return None
    steps = [int(entry.name) for entry in place.iterdir() if entry.name.isdecimal()]
    return max(steps, default=None)


def _read(path: Path, place: int) -> tuple[bytes, int, bool]:
    """Whole lines from a byte on, the byte behind them, and whether the file began again."""
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            again = size < place
            start = 0 if again else place
            stream.seek(start)
            data = stream.read(AT_ONCE)
    except FileNotFoundError:
        return b"", 0, place > 0
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    whole = data.rfind(b"\n") + 1
    return data[:whole], start + whole, again


def _row(line: bytes) -> dict[str, Any] | None:
    """The figures of a line; None for one that is damaged."""
    try:
        found = json.loads(line)
        step = found["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if isinstance(step, bool) or not isinstance(step, int | float):
        return None
    numbers = {k: v for k, v in found.items() if isinstance(v, int | float)}
    return {"step": step, **{k: v for k, v in numbers.items() if not isinstance(v, bool)}}
