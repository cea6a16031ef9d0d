"""What was understood of a data set, for the user to read before anything is trained."""

import numpy as np

from core.data.dataset import Dataset

MOST_CLASSES = 12
"""Up to so many classes are named with their counts."""


def summary(dataset: Dataset) -> list[str]:
    """A few lines: number, shape and range of the examples, classes with their counts, what was
    left out and why."""
    lines = [f"data {dataset.name}: {_examples(dataset)}, {_values(dataset)}"]
    return lines + _classes(dataset) + list(dataset.notes)


def _examples(dataset: Dataset) -> str:
    count = f"{len(dataset):,}"
    if dataset.kind == "points":
        return f"{count} points of {dataset.shape[0]} numbers"
    height, width, channels = dataset.shape
    what = {1: "gray", 3: "colour"}.get(channels, f"{channels}-channel")
    return f"{count} {what} pictures of {height} x {width} pixels (height x width)"


def _values(dataset: Dataset) -> str:
    """The range of the stored values, and what becomes -1 and 1."""
    if not dataset.resident:
        return "bytes on disk, 0 black and 255 white"
    low, high = dataset.examples.min(), dataset.examples.max()
    found = f"values from {low:.4g} to {high:.4g}"
    if dataset.levels is not None:
        return f"{found} (0 black, {dataset.levels} white)"
    return found if dataset.kind == "points" else f"{found} (-1 black, 1 white)"


def _classes(dataset: Dataset) -> list[str]:
    counts = np.array(dataset.class_counts)
    if not len(counts):
        return []
    if len(counts) > MOST_CLASSES:
        spread = f"{counts.min():,} to {counts.max():,} examples each"
        return [f"{len(counts):,} classes, {spread}"]
    pairs = zip(dataset.class_names, counts)
    return [f"{len(counts)} classes: {', '.join(f'{name} {count:,}' for name, count in pairs)}"]
