"""The edits of `apps.edit`: examples in stages, a sheet for each edit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.data.dataset import Dataset
from core.errors import pick, require
from core.report.edits import Sheet
from portolan.editing import Editor, round_trip

Edit = Literal["round-trip", "interpolate", "classes", "variations", "attributes"]
EDITS: tuple[Edit, ...] = ("round-trip", "interpolate", "classes", "variations", "attributes")
SHARES = np.linspace(0, 1, 9)
STRENGTHS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""How much of the difference of two classes is added."""
SIDE = 64
"""Examples of each of two classes whose mean noises are compared, at most."""
Made = tuple[Sheet, dict[str, float]]
"""A sheet, and what was measured on the way."""


@dataclass(frozen=True)
class Given:
    """The examples that are edited, and as many others of the same classes: network values.

    `sides` are examples of two classes, none of them edited, for `attributes` alone.
    """

    x: np.ndarray
    others: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...]
    sides: tuple[np.ndarray, np.ndarray] | None = None


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


def of_two_classes(dataset: Dataset, pair: Sequence[str], first: int, n: int) -> Given:
    """`n` examples of the class `pair[0]` from number `first` on, and others of it and of `pair[1]`
    to compare; an empty pair is the first two classes. For data with classes. Raises `UserError`
    where there are too few, or no such classes."""
    names, labels = dataset.class_names, dataset.labels
    assert labels is not None
    known = {name: k for k, name in enumerate(names)}
    low, high = (pick(known, name, "class of the data") for name in pair or names[:2])
    require(low != high, f"--attribute {names[low]} {names[low]}: name two different classes")
    one, other = (first + np.flatnonzero(labels[first:] == k) for k in (low, high))
    require(
        len(one) > n and len(other) > 0,
        f"fewer than {n + 1:,} examples of {names[low]} or none of {names[high]} from number "
        f"{first:,} on: lower --n or --first",
    )
    x, *sides = (
        np.asarray(dataset.decode(dataset.take(numbers)))
        for numbers in (one[:n], one[n : n + SIDE], other[:SIDE])
    )
    return Given(x, x, None, (names[low], names[high]), (sides[0], sides[1]))


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


def attributes(editing: Editor, given: Given, noise: Sequence[float]) -> Made:
    """More and more of what makes the second class, `F(z + w (mean z_2 - mean z_1), 1, 0)` (Glow,
    arXiv 1807.03039, section 6)."""
    del noise
    assert given.sides is not None
    low, high = (editing.encode(side, None).mean(axis=0) for side in given.sides)
    z = editing.encode(given.x, None)
    moved = np.stack([z + weight * (high - low) for weight in STRENGTHS], axis=1)
    read = editing.decode(moved.reshape(-1, *z.shape[1:]), None).reshape(moved.shape)
    page = np.concatenate([given.x[:, None], read], axis=1)
    title = f"from {given.names[0]} to {given.names[1]}"
    return Sheet(title, ("data", *(f"{w:g}" for w in STRENGTHS)), page), {}


MADE: dict[Edit, Callable[[Editor, Given, Sequence[float]], Made]] = {
    "round-trip": there_and_back,
    "interpolate": between,
    "classes": classes,
    "variations": variations,
    "attributes": attributes,
}
