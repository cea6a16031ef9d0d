"""Frechet distance: the Wasserstein-2 distance of two Gaussians fitted to the features."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Statistics(NamedTuple):
    """Mean, covariance (divisor `n - 1`) and size of a set of features, in float64; the size is
    None where a file of statistics does not say it."""

    mean: Float[np.ndarray, " dim"]
    cov: Float[np.ndarray, "dim dim"]
    n: int | None


def statistics(features: Float[np.ndarray, "n dim"]) -> Statistics:
    """Fits a Gaussian to features of shape `(n, dim)`.

    **Raises:** `ValueError` unless `features` is two-dimensional with `n >= 2` rows; a covariance
    needs two. With `n <= dim` it is singular, and distances computed from it are far too
    pessimistic to be compared with others: prefer `kid` there.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2:
        raise ValueError(f"expected features of shape (n, dim), got {x.shape}")
    if len(x) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(x)}: draw more samples")
    mean = x.mean(axis=0)
    centred = x - mean
    return Statistics(mean, centred.T @ centred / (len(x) - 1), len(x))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    r"""Squared Wasserstein-2 distance of the Gaussians `a` and `b`, in squared feature units.

    `|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2})`

    The last trace is the sum of the square roots of the eigenvalues of the symmetric matrix
    `S_a^{1/2} S_b S_a^{1/2}`; eigenvalues that rounding made negative count as 0, and so does a
    negative result.

    With `n` samples the value is biased upward by about `c / n`, where `c` depends on the two
    distributions: compare only values taken with the same `n`, against a floor of that `n`.

    **Source:** Dowson and Landau, "The Frechet distance between multivariate normal distributions"
    (1982), eq. 4. On Inception features it is the FID of Heusel et al. (2017), and only there.

    **Raises:** `ValueError` if the dimensions differ.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(
            f"the two statistics have {a.mean.size} and {b.mean.size} features: "
            "use the same features for both"
        )
    root = _symmetric_root(a.cov)
    eigenvalues = np.linalg.eigvalsh(_symmetrised(root @ b.cov @ root))
    cross = np.sum(np.sqrt(np.clip(eigenvalues, 0, None)))
    shift = np.sum((a.mean - b.mean) ** 2)
    return max(float(shift + np.trace(a.cov) + np.trace(b.cov) - 2 * cross), 0.0)


def frechet(x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"]) -> float:
    """`frechet_distance` of the Gaussians fitted to two sets of features."""
    return frechet_distance(statistics(x), statistics(y))


def _symmetrised(matrix: Float[np.ndarray, "dim dim"]) -> Float[np.ndarray, "dim dim"]:
    return (matrix + matrix.T) / 2


def _symmetric_root(cov: Float[np.ndarray, "dim dim"]) -> Float[np.ndarray, "dim dim"]:
    eigenvalues, vectors = np.linalg.eigh(_symmetrised(cov))
    return (vectors * np.sqrt(np.clip(eigenvalues, 0, None))) @ vectors.T
