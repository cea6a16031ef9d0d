"""The edits of `apps.edit`: examples in stages, a sheet for each edit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.data.dataset import Dataset
from core.errors import require
from core.report.edits import Sheet
from portolan.editing import Editor, round_trip

Edit = Literal["round-trip", "interpolate", "classes", "variations"]
EDITS: tuple[Edit, ...] = ("round-trip", "interpolate", "classes", "variations")
SHARES = np.linspace(0, 1, 9)
Made = tuple[Sheet, dict[str, float]]
"""A sheet, and what was measured on the way."""


@dataclass(frozen=True)
class Given:
    """The examples that are edited, and as many others of the same classes: network values."""

    x: np.ndarray
    others: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...]


def chosen(dataset: Dataset, first: int, n: int) -> Given:
    """`n` examples from number `first` on, with the classes in turn where there are some, and
    another of the same class for each. Raises `UserError` where there are too few."""
    kinds = np.zeros(len(dataset), np.int32) if dataset.labels is None else dataset.labels
    after = kinds[first:]
    groups = [first + np.flatnonzero(after == k) for k in np.unique(after)]
    turns = [(groups[i % len(groups)], 2 * (i // len(groups))) for i in range(n if groups else 0)]
    enough = bool(turns) and all(place + 1 < len(group) for group, place in turns)
    require(enough, f"fewer than {2 * n:,} examples from number {first:,} on: lower --n or --first")
    x, others = (
        np.asarray(dataset.decode(dataset.take(np.array([g[place + k] for g, place in turns]))))
        for k in (0, 1)
    )
    labels = None if dataset.labels is None else kinds[[g[place] for g, place in turns]]
    return Given(x, others, labels, dataset.class_names)


def there_and_back(editing: Editor, given: Given, noise: Sequence[float]) -> Made:
    """Data, noise, and data again."""
    del noise
    z, again, errors = round_trip(editing, given.x, given.labels)
    sheet = Sheet(
        "there and back", ("data", "noise", "again"), np.stack([given.x, z, again], axis=1)
    )
    mean, worst = float(errors.mean()), float(errors.max())
    return sheet, {"round_trip": mean, "round_trip_worst": worst}


def between(editing: Editor, given: Given, noise: Sequence[float]) -> Made:
    """From each example to another of its class."""
    del noise
    a, b = (editing.encode(x, given.labels) for x in (given.x, given.others))
    ways = editing.between(a, b, given.labels, SHARES)
    page = np.concatenate([given.x[:, None], ways, given.others[:, None]], axis=1)
    return Sheet("through noise", ("data", *(f"{w:.3g}" for w in SHARES), "data "), page), {}


def classes(editing: Editor, given: Given, noise: Sequence[float]) -> Made:
    """Each example as every class."""
    del noise
    kinds = np.arange(min(len(given.names), 10), dtype=np.int32)
    read = editing.as_classes(editing.encode(given.x, given.labels), kinds)
    page = np.concatenate([given.x[:, None], read], axis=1)
    return Sheet("the noise of each, as every class", ("data", *given.names[:10]), page), {}


def variations(editing: Editor, given: Given, noise: Sequence[float]) -> Made:
    """Each example with more and more noise, up to these times, and back."""
    varied = [editing.varied(given.x, given.labels, unit) for unit in noise]
    names = ("data", *(f"t = {unit:g}" for unit in noise))
    return Sheet("noise up to t, and back", names, np.stack([given.x, *varied], axis=1)), {}


MADE: dict[Edit, Callable[[Editor, Given, Sequence[float]], Made]] = {
    "round-trip": there_and_back,
    "interpolate": between,
    "classes": classes,
    "variations": variations,
}
