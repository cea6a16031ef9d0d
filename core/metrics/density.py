"""Kullback-Leibler divergence of points in the plane, from histograms."""

import numpy as np
from jaxtyping import Float

from core.metrics._distances import check_sets

Limits = tuple[tuple[int | float, int | float], tuple[int | float, int | float]]


def histogram_kl(
    data: Float[np.ndarray, "n 2"],
    model: Float[np.ndarray, "m 2"],
    *,
    bins: int = 20,
    limits: Limits | None = None,
    smoothing: int | float = 0.5,
) -> float:
    """Estimate of `D(data || model) = sum_c p_c log(p_c / q_c)` in nats, for points in the plane.

    The cells `c` are a `bins` by `bins` grid over `limits = ((x_low, x_high), (y_low, y_high))`,
    by default the bounding box of the data, and one more cell for all that lies outside. Counts
    become probabilities by adding `smoothing` to every cell of both:
    `p_c = (count_c + a) / (n + a (bins^2 + 1))`, with `a = 1/2` the estimator of Krichevsky and
    Trofimov (1981). So the value is finite, never negative, and 0 for equal sets.

    Detail finer than a cell is invisible, and the value is biased upward by about
    `occupied cells / 2 (1/n + 1/m)`: compare only equal sizes, against a floor.

    **Raises:** `ValueError` unless both sets are non-empty `(rows, 2)`, `bins >= 1` and
    `smoothing > 0`.
    """
    check_sets(data, model, at_least=1)
    if data.shape[1] != 2 or bins < 1 or smoothing <= 0:
        raise ValueError(
            f"expected points (rows, 2), bins >= 1 and smoothing > 0, "
            f"got {data.shape}, {bins} and {smoothing}"
        )
    if limits is None:
        limits = _bounding_box(data)
    p = _probabilities(data, bins, limits, smoothing)
    q = _probabilities(model, bins, limits, smoothing)
    return float(np.sum(p * np.log(p / q)))


def _bounding_box(data: Float[np.ndarray, "n 2"]) -> Limits:
    (x_low, y_low), (x_high, y_high) = data.min(axis=0), data.max(axis=0)
    return (float(x_low), float(x_high)), (float(y_low), float(y_high))


def _probabilities(
    points: Float[np.ndarray, "n 2"], bins: int, limits: Limits, smoothing: int | float
) -> Float[np.ndarray, " cells"]:
    points = np.asarray(points, np.float64)
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=bins, range=limits)[0].ravel()
    counts = np.append(counts, len(points) - counts.sum()) + smoothing
    return counts / counts.sum()
