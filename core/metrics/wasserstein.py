"""Wasserstein-2 distances: exact by assignment, and sliced over directions."""

import numpy as np
from jaxtyping import Float

from core.metrics._distances import check_sets, squared_distances, tiles

_DIRECTIONS_SEED = 20_240_229
_ANGLES = 256
_RANDOM_DIRECTIONS = 1000


def exact_w2(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> float:
    """Exact `W_2` of two equally large sets: `sqrt(min_pi mean_i |x_i - y_pi(i)|^2)`.

    Cost grows as `n^3`: a second at 2048, where it should stop; see `subset_w2`.

    **Raises:** `ValueError` if the sizes or the dimensions differ, or a set is empty.
    """
    from scipy.optimize import linear_sum_assignment

    check_sets(x, y, at_least=1)
    if len(x) != len(y):
        raise ValueError(
            f"exact_w2 matches one to one and needs equal sizes, got {len(x)} and {len(y)}: "
            "use subset_w2"
        )
    costs = squared_distances(x, y)
    return float(np.sqrt(costs[linear_sum_assignment(costs)].mean()))


def subset_w2(
    x: Float[np.ndarray, "n dim"],
    y: Float[np.ndarray, "m dim"],
    *,
    size: int = 2048,
    draws: int = 3,
    seed: int = 0,
) -> float:
    """Mean of `exact_w2` over `draws` random subsets of `min(size, n, m)` rows of both sets.

    Rows are drawn without replacement. When both sets are used whole, one draw says all and only
    one is made. The value is biased upward, in `dim` dimensions by about `n^(-1 / dim)`: compare
    only values of equal sizes, against a floor.

    **Raises:** `ValueError` if the dimensions differ, a set is empty, or `size` or `draws` is < 1.
    """
    check_sets(x, y, at_least=1)
    if size < 1 or draws < 1:
        raise ValueError(f"expected size >= 1 and draws >= 1, got {size} and {draws}")
    rng = np.random.default_rng(seed)
    size = min(size, len(x), len(y))
    if size == len(x) == len(y):
        return exact_w2(x, y)
    values = [
        exact_w2(
            x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        )
        for _ in range(draws)
    ]
    return float(np.mean(values))


def sliced_w2(
    x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"], *, tile: int = 64
) -> float:
    """Sliced Wasserstein: `sqrt(E_w W_2^2(w.x, w.y))` over unit directions `w`.

    One direction in 1-D; 256 equispaced angles of the half circle in 2-D, so that a translation by
    `c` gives `|c| / sqrt(2)` exactly; above, 1000 random directions, the same for every call, and
    `|c| / sqrt(dim)` up to the error of their mean. `tile` directions are projected at a time,
    which bounds the memory, not the result. Sizes may differ.

    In high dimension random slices of most distributions look Gaussian, so that the distance sees
    little beyond means and variances: use it on features.

    **Source:** Rabin et al., "Wasserstein barycenter and its application to texture mixing" (2011).

    **Raises:** `ValueError` if the dimensions differ or a set is empty.
    """
    check_sets(x, y, at_least=1)
    directions = _directions(x.shape[1])
    squared = [
        _squared_w2_of_lines(directions[rows] @ x.T, directions[rows] @ y.T)
        for rows in tiles(len(directions), tile)
    ]
    return float(np.sqrt(np.concatenate(squared).mean()))


def _directions(dim: int) -> Float[np.ndarray, "directions dim"]:
    if dim == 1:
        return np.ones((1, 1))
    if dim == 2:
        angles = np.pi * np.arange(_ANGLES) / _ANGLES
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rng = np.random.default_rng(_DIRECTIONS_SEED)
    directions = rng.normal(size=(_RANDOM_DIRECTIONS, dim))
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _squared_w2_of_lines(
    x: Float[np.ndarray, "lines n"], y: Float[np.ndarray, "lines m"]
) -> Float[np.ndarray, " lines"]:
    """`W_2^2` on the line, per row: the squared difference of the quantile functions, integrated.

    Both are step functions, with steps at multiples of `1/n` and `1/m`; in units of `1 / (n m)`
    the steps are integers, and between two of them both functions are constant.
    """
    n, m = x.shape[1], y.shape[1]
    x, y = np.sort(x, axis=1), np.sort(y, axis=1)
    if n == m:
        return np.mean((x - y) ** 2, axis=1)
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    left, widths = edges[:-1], np.diff(edges) / (n * m)
    return (x[:, left // m] - y[:, left // n]) ** 2 @ widths
