"""Points of any number of numbers as dots in a plane."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from core.data.spec import DataSpec

MOST_UNLIKE = 4
"""Two numbers share their axes up to this ratio of their spreads."""


def in_plane(
    panels: Mapping[str, Float[np.ndarray, "_ dim"]], spec: DataSpec
) -> dict[str, Float[np.ndarray, "_ 2"]]:
    """Points `(n, 2)` for every panel of points `(n, dim)`.

    Two numbers are the dot itself; where their scales are far from each other both are brought to
    standard deviation 1, and the panels' names say so. One number is drawn with the share of points
    that are lower: the distribution function. Of more numbers the two principal axes of the first
    panel are shown, in standard deviations of each number (of its scale, where there is one), and
    the panels' names say so.
    """
    points = {name: np.asarray(x, np.float64) for name, x in panels.items()}
    dim = next(iter(points.values())).shape[1]
    if dim == 2:
        return _comparable(dict(panels), spec)
    if dim == 1:
        return {name: _ranked(x) for name, x in points.items()}
    first = next(iter(points.values()))
    centre = np.asarray(spec.scale.centre) if spec.scale else first.mean(0)
    spread = np.asarray(spec.scale.spread) if spec.scale else np.maximum(first.std(0), 1e-12)
    axes = np.linalg.svd((first - centre) / spread, full_matrices=False)[2]
    axes = np.resize(axes[:2], (2, dim))  # of a single point there is one
    axes = axes * np.where(axes.sum(1, keepdims=True) < 0, -1, 1)  # a sign is no choice of LAPACK's
    return {f"{name}, principal axes": (x - centre) / spread @ axes.T for name, x in points.items()}


def _comparable(panels: dict[str, np.ndarray], spec: DataSpec) -> dict[str, np.ndarray]:
    spread = np.asarray(spec.scale.spread)
    if not spec.scale or spread.max() <= MOST_UNLIKE * spread.min():
        return panels
    centre = np.asarray(spec.scale.centre)
    return {f"{name}, standardised": (x - centre) / spread for name, x in panels.items()}


def _ranked(x: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, "n 2"]:
    place = np.arange(1, len(x) + 1) / max(len(x), 1)
    return np.column_stack([np.sort(x[:, 0]), place])
