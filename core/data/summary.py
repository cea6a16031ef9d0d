"""What was understood of a data set, for the user to read before anything is trained."""

import numpy as np

from core.data.dataset import Dataset
from core.data.spaces import words

MOST_CLASSES = 12
"""Up to so many classes are named with their counts."""
FEW_CHANNELS = 4
"""Up to so many channels have their means named."""


def summary(dataset: Dataset) -> list[str]:
    """A few lines: number, shape and range of the examples, classes with their counts, what was
    left out and why."""
    values = [] if dataset.kind == "tokens" else [_values(dataset)]
    lines = [f"data {dataset.name}: {', '.join([_examples(dataset), *values])}"]
    return lines + _classes(dataset) + list(dataset.notes)


def _examples(dataset: Dataset) -> str:
    count = f"{len(dataset):,}"
    if dataset.kind == "points":
        where = f" on {words(dataset.space)}" if dataset.space else ""
        return f"{count} points of {dataset.shape[0]} numbers{where}"
    if dataset.kind == "series":
        length, channels = dataset.shape
        what = "channel" if channels == 1 else "channels"
        return f"{count} series of length {length:,} with {channels} {what}"
    if dataset.kind == "tokens":
        return f"{count} texts of {dataset.shape[0]:,} symbols, of {dataset.shape[1]:,} in all"
    height, width, channels = dataset.shape
    what = {1: "gray", 3: "colour"}.get(channels, f"{channels}-channel")
    shown = "" if channels in (1, 3) else ", shown as a gray panel a channel"
    return f"{count} {what} pictures of {height} x {width} pixels (height x width){shown}"


def _values(dataset: Dataset) -> str:
    """The range of the stored values, and what becomes -1 and 1."""
    if dataset.scale:
        return f"{_found(dataset)}{_scaled(dataset)}"
    if dataset.levels is not None:
        return f"{_found(dataset)} (0 black, {dataset.levels} white)"
    return f"{_found(dataset)}{' (-1 black, 1 white)' if dataset.kind == 'image' else ''}"


def _found(dataset: Dataset) -> str:
    if not dataset.resident:
        return "bytes on disk" if dataset.levels else "numbers on disk"
    return f"values from {dataset.examples.min():.4g} to {dataset.examples.max():.4g}"


def _scaled(dataset: Dataset) -> str:
    """How values become network values, which samples undo."""
    centre, spread = dataset.scale.centre, dataset.scale.spread
    if dataset.scale.span != 1:
        each = " in each channel" if len(centre) > 1 else ""
        return (
            f", brought to mean 0 and standard deviation 1{each} (mean {_list(centre)}, standard "
            f"deviation {_list(spread)}); samples are in the units of the data"
        )
    low, high = centre[0] - spread[0], centre[0] + spread[0]
    return f"; {low:.4g} becomes -1 and {high:.4g} 1; samples are in the units of the data"


def _list(numbers: tuple[float, ...]) -> str:
    """A few numbers, or the lowest and the highest of many."""
    if len(numbers) <= FEW_CHANNELS:
        return ", ".join(f"{one:.4g}" for one in numbers)
    return f"{min(numbers):.4g} to {max(numbers):.4g}"


def _classes(dataset: Dataset) -> list[str]:
    counts = np.array(dataset.class_counts)
    if not len(counts):
        return []
    if len(counts) > MOST_CLASSES:
        spread = f"{counts.min():,} to {counts.max():,} examples each"
        return [f"{len(counts):,} classes, {spread}"]
    pairs = zip(dataset.class_names, counts)
    return [f"{len(counts)} classes: {', '.join(f'{name} {count:,}' for name, count in pairs)}"]
