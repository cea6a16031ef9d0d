"""Distances between all pairs of two sets, a tile of rows at a time."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

_DIRECT_DIM = 64
_RELATIVE_ROUNDING = 1e-12


def squared_distances(
    x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]
) -> Float[np.ndarray, "n m"]:
    """Squared Euclidean distances `|x_i - y_j|^2`, shape `(n, m)`, in float64.

    Up to 64 dimensions the differences are formed, so that the result is accurate to rounding.
    Above, `|x|^2 + |y|^2 - 2 x.y` is used, which is many times faster; its cancellation error
    is below `1e-12 (|x|^2 + |y|^2)`, and distances under that bound are set to exactly 0, so that
    equal points are at distance 0 in both ways.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape[1] <= _DIRECT_DIM:
        from scipy.spatial.distance import cdist

        return cdist(x, y, "sqeuclidean")
    norms = np.sum(x * x, axis=1)[:, None] + np.sum(y * y, axis=1)[None, :]
    distances = norms - 2 * (x @ y.T)
    return np.where(distances > _RELATIVE_ROUNDING * norms, distances, 0.0)


def tiles(size: int, tile: int) -> Iterator[slice]:
    """Slices of at most `tile` rows that cover `range(size)`; `ValueError` if `tile < 1`."""
    if tile < 1:
        raise ValueError(f"a tile has at least 1 row, got tile={tile}")
    for start in range(0, size, tile):
        yield slice(start, min(start + tile, size))


def neighbour_radii(
    points: Float[np.ndarray, "m dim"], neighbours: int, tile: int
) -> Float[np.ndarray, " m"]:
    """The squared distance of each point to its `neighbours` th neighbour among the others."""
    # Column 0 of the partition is the point itself, so `neighbours` is the index to take.
    found = [
        np.partition(squared_distances(points[rows], points), neighbours, axis=1)[:, neighbours]
        for rows in tiles(len(points), tile)
    ]
    return np.concatenate(found)


def check_sets(x: np.ndarray, y: np.ndarray, at_least: int) -> None:
    """`ValueError` unless both are `(rows, dim)`, of one `dim`, with `at_least` rows each."""
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"expected two arrays (rows, dim) with the same dim, got {x.shape} and {y.shape}"
        )
    if min(len(x), len(y)) < at_least:
        raise ValueError(
            f"expected at least {at_least} rows in both sets, got {len(x)} and {len(y)}: "
            "draw more samples"
        )
