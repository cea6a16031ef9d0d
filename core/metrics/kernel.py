"""Maximum mean discrepancies: unbiased estimates that need few samples."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from core.metrics._distances import check_sets, squared_distances, tiles
from core.metrics.feature_set import Rows


class KernelDistance(NamedTuple):
    """Mean of a squared discrepancy over random subsets of `size` rows, and its deviation between
    them."""

    mean: float
    std: float
    size: int


def polynomial_mmd(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> float:
    r"""Unbiased estimate of MMD^2 with the kernel `k(x, y) = (x.y / dim + 1)^3`.

    `sum_{i != j} k(x_i, x_j) / (n (n - 1)) + sum_{i != j} k(y_i, y_j) / (m (m - 1))
    - 2 sum_{i, j} k(x_i, y_j) / (n m)`

    Its expectation is 0 for equal distributions, so that it is negative about half of the time
    there. The kernel compares moments up to the third only.

    **Source:** Gretton et al., "A kernel two-sample test" (2012), eq. 3 (the U-statistic);
    Binkowski et al., "Demystifying MMD GANs" (2018), for the kernel.

    **Raises:** `ValueError` if a set has fewer than 2 rows or the dimensions differ.
    """
    check_sets(x, y, at_least=2)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return float(_mean_off_diagonal(x) + _mean_off_diagonal(y) - 2 * _cubic(x, y).mean())


def kid(
    x: Rows,
    y: Rows,
    *,
    subsets: int = 100,
    subset_size: int = 1000,
    seed: int = 0,
) -> KernelDistance:
    """Kernel distance: `polynomial_mmd` averaged over random subsets.

    The sets are arrays `(rows, dim)` or `Gathered`, of which only the rows of a subset are read.
    Each subset takes `subset_size` rows of both sets without replacement, but at most half of the
    smaller set, so that subsets differ. `std` is the deviation between subsets, which overlap: it
    is not the standard error of the mean.

    **Source:** Binkowski et al., "Demystifying MMD GANs" (2018); usually reported times 1000.

    **Raises:** `ValueError` if a set has fewer than 2 rows, the dimensions differ or `subsets < 1`.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"expected at least 2 rows in both sets, got {len(x)} and {len(y)}")
    if subsets < 1 or subset_size < 2:
        raise ValueError(
            f"expected subsets >= 1 and subset_size >= 2, got {subsets} and {subset_size}"
        )
    rng = np.random.default_rng(seed)
    size = max(min(subset_size, len(x) // 2, len(y) // 2), 2)
    values = [
        polynomial_mmd(
            x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), size)


def energy_distance(
    x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"], *, tile: int = 512
) -> float:
    """Unbiased energy distance `2 E|x - y| - E|x - x'| - E|y - y'|`, in feature units.

    It is the MMD^2 of the kernel `-|x - y|`: no parameter, zero only for equal distributions, and
    slightly negative about half of the time there. `tile` bounds the memory, not the result.

    **Source:** Szekely and Rizzo, "Energy statistics" (2013).

    **Raises:** `ValueError` if a set has fewer than 2 rows or the dimensions differ.
    """
    check_sets(x, y, at_least=2)
    n, m = len(x), len(y)
    between = _distance_sum(x, y, tile) / (n * m)
    within_x = _distance_sum(x, x, tile) / (n * (n - 1))
    within_y = _distance_sum(y, y, tile) / (m * (m - 1))
    return float(2 * between - within_x - within_y)


def _cubic(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> np.ndarray:
    base = (x / x.shape[1]) @ y.T
    base += 1
    return base * base * base


def _mean_off_diagonal(x: Float[np.ndarray, "n dim"]) -> float:
    n = len(x)
    diagonal = (np.sum(x * x, axis=1) / x.shape[1] + 1) ** 3
    return float((_cubic(x, x).sum() - diagonal.sum()) / (n * (n - 1)))


def _distance_sum(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"], tile: int) -> float:
    return sum(float(np.sqrt(squared_distances(x[rows], y)).sum()) for rows in tiles(len(x), tile))
