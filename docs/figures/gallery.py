"""Cuts the pictures of comparisons into one a method: `python -m docs.figures.gallery`.

Reads `<comparison>-samples.png` of docs/images and, for the order of the methods, the JSON of the
comparison in docs/results; writes docs/images/gallery/<data>-<method>.png. Of a method that several
comparisons have, the later one's.
"""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

DOCS = Path(__file__).parents[1]
COLORS = 16
"""Shades of a picture, which has one colour."""
NEAREST = Image.Resampling.NEAREST
Box = tuple[int, int, int, int]
"""Left, top, right, bottom."""


def main() -> None:
    """Cuts the pictures of all methods side by side, and of those with recipes of their own."""
    (DOCS / "images" / "gallery").mkdir(exist_ok=True)
    for comparison in ("compare", "recipes"):
        cut(comparison, "checkerboard", panels, 1)
        cut(comparison, "digits", rows, 2)


def cut(comparison: str, data: str, boxes: Callable[[np.ndarray], list[Box]], shrink: int) -> None:
    """Writes one picture a method; the first box of the comparison has the data themselves."""
    whole = Image.open(DOCS / "images" / f"{comparison}-{data}-samples.png").convert("RGB")
    listed = json.loads((DOCS / "results" / f"{comparison}-{data}.json").read_text())["methods"]
    names = ["data", *(method["plugin"] for method in listed)]
    for name, box in zip(names, boxes(np.asarray(whole.convert("L"))), strict=True):
        part = whole.crop(box)
        picture = part.resize((part.width // shrink, part.height // shrink), NEAREST).quantize(
            COLORS
        )
        picture.save(DOCS / "images" / "gallery" / f"{data}-{name}.png", optimize=True)


def panels(gray: np.ndarray) -> list[Box]:
    """The frames of a page of panels, row by row, without those that stay empty."""
    dark = gray < 100
    least = 100  # a frame's side is a longer line than a letter or a cloud of points has
    lines = [np.flatnonzero([longest(line) > least for line in side]) for side in (dark.T, dark)]
    lefts, tops = ([(a, b) for a, b in pairwise(merged(line)) if b - a > least] for line in lines)
    every = [(x, y, X + 1, Y + 1) for y, Y in tops for x, X in lefts]
    return [box for box in every if longest(dark[box[1], box[0] : box[2]]) > least]


def rows(gray: np.ndarray) -> list[Box]:
    """The rows of a grid of images, whose columns of text are left of it."""
    solid = np.flatnonzero((gray < 250).mean(axis=0) > 0.5)
    left, right = int(solid[0]), int(solid[-1]) + 1
    inside = (gray[:, left:right] < 250).any(axis=1).astype(int)
    starts, ends = (np.flatnonzero(np.diff(np.pad(inside, 1)) == way) for way in (1, -1))
    return [(left, int(y), right, int(Y)) for y, Y in zip(starts, ends) if Y - y > 20]


def longest(line: np.ndarray) -> int:
    """The length of the longest run of true values."""
    changes = np.flatnonzero(np.diff(np.pad(line.astype(int), 1)))
    return int(max(np.diff(changes)[::2], default=0))


def merged(places: np.ndarray) -> list[int]:
    """Neighbouring pixels of one line as one place."""
    return [int(p) for i, p in enumerate(places) if i == 0 or p - places[i - 1] > 2]


if __name__ == "__main__":
    main()
