"""Metrics of points on a manifold, by geodesic distances; and on cells of a known density."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.flow.rotations import SO3
from core.flow.space import Space
from core.flow.sphere import Sphere
from core.flow.torus import Torus
from core.metrics._distances import check_sets, squared_distances, tiles
from core.metrics.evaluate import Measured
from core.metrics.feature_set import FeatureSet

MOST_ROWS, MOST_REFERENCE = 13_000, 5_000
"""Rows of samples and of the reference that are compared, at most: the cost grows with the
square."""
_ROWS = 256

Points = Float[np.ndarray, "_ dim"]


def geodesic_mmd(space: Space, x: Points, y: Points) -> float:
    """The discrepancy of the papers on manifolds: `sqrt(mean k_xx + mean k_yy - 2 mean k_xy)`.

    `k = exp(-d^2)` with the geodesic distance `d`, all pairs, each point with itself too (the
    V-statistic). It is biased upward, by as much as two sets of this size differ by chance: compare
    only sets of equal sizes, with the value between two sets of real data beside it. On a torus `d`
    is that of all angles together; means of kernels of one angle would see marginals only. Source:
    Generalised flow maps (arXiv 2510.21608) and the code of its peers.

    **Raises:** `ValueError` for empty sets or other dimensions.
    """
    check_sets(x, y, at_least=1)
    pairs = kernel_sum(space, x, x) / len(x) ** 2 + kernel_sum(space, y, y) / len(y) ** 2
    return float(np.sqrt(max(pairs - 2 * kernel_sum(space, x, y) / (len(x) * len(y)), 0.0)))


def geodesic_mmd2(space: Space, x: Points, y: Points) -> float:
    """The unbiased estimate of the squared discrepancy: `geodesic_mmd` without the pairs of a point
    with itself, and without the root. Its mean is 0 for equal distributions, so that it may be
    negative. Source: Gretton et al. (2012), eq. 3."""
    check_sets(x, y, at_least=2)
    n, m = len(x), len(y)
    xx = (kernel_sum(space, x, x) - n) / (n * (n - 1))
    yy = (kernel_sum(space, y, y) - m) / (m * (m - 1))
    return float(xx + yy - 2 * kernel_sum(space, x, y) / (n * m))


def kernel_sum(space: Space, x: Points, y: Points) -> float:
    """The sum of `exp(-d^2)` over all pairs; of a set with itself half of them are computed."""
    total, same = 0.0, x is y
    for rows in tiles(len(x), _ROWS):
        k = np.exp(-geodesic_squares(space, x[rows], y[rows.start :] if same else y))
        inside = k[:, : len(k)].sum() if same else 0.0
        total += float(2 * k.sum() - inside if same else k.sum())
    return total


def geodesic_squares(space: Space, x: Points, y: Points) -> Float[np.ndarray, "n m"]:
    """Squared geodesic distances of all pairs: in closed form on spheres, tori and in SO(3), else
    by the distance of the space, which takes longer."""
    if isinstance(space, Torus):
        return np.sum([_wrapped(a[:, None] - b) ** 2 for a, b in zip(x.T, y.T)], axis=0)
    if isinstance(space, Sphere | SO3):
        chord = squared_distances(x, y)
        chord = np.minimum(chord, 4 - chord) if isinstance(space, SO3) else chord
        return 4 * np.arcsin(np.sqrt(np.clip(chord, 0, 4)) / 2) ** 2
    return np.asarray(_distances(space, jnp.asarray(x), jnp.asarray(y)), np.float64) ** 2


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + np.pi) % (2 * np.pi) - np.pi


@eqx.filter_jit
def _distances(
    space: Space, x: Float[Array, "n dim"], y: Float[Array, "m dim"]
) -> Float[Array, "n m"]:
    return jax.vmap(lambda one: jax.vmap(lambda other: space.distance(one, other))(y))(x)


def cells_kl(cells: Float[np.ndarray, "..."], x: Points, *, smoothing: float = 0.5) -> float:
    """`D(p || q) = sum_c p_c log(p_c / q_c)` in nats, of a known density on the torus and samples.

    `p` are the probabilities of equal cells of `[-pi, pi)^d`; counts of samples become `q` by
    adding `smoothing` to every cell. Biased upward by about `cells / (2 n)`: at least as many
    samples as cells, with the value of as many draws from `p` beside it.

    **Raises:** `ValueError` for points of another number of angles.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[1] != cells.ndim:
        raise ValueError(f"expected points of {cells.ndim} angles, got shape {x.shape}")
    share = (x + np.pi) / (2 * np.pi) % 1.0
    place = np.minimum((share * cells.shape).astype(int), np.array(cells.shape) - 1)
    index = np.ravel_multi_index(tuple(place.T), cells.shape)
    q = np.bincount(index, minlength=cells.size) + smoothing
    p, q = cells.ravel(), q / q.sum()
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / q[held])))


def cells_floor(cells: Float[np.ndarray, "..."], n: int, *, smoothing: float = 0.5) -> float:
    """`cells_kl` of `n` draws from the density itself."""
    p = cells.ravel()
    q = np.random.default_rng(0).multinomial(n, p) + smoothing
    held = p > 0
    return float(np.sum(p[held] * np.log(p[held] / (q / q.sum())[held])))


def compare_in_space(
    x: FeatureSet, y: FeatureSet, space: Space, cells: Float[np.ndarray, "..."] | None = None
) -> dict[str, Measured]:
    """Compares the samples `x` with the reference `y`, both points of a space.

    **Returns:** `mmd`, `geodesic_mmd` of the first rows of both, as many as the smaller set has;
    `mmd2`, `geodesic_mmd2` of all rows, 13,000 and 5,000 at most; `kl`, `cells_kl` of all samples,
    where the density is known.
    """
    assert x.rows is not None and y.rows is not None
    first, second = x.rows[:], y.rows[:]
    a, b = first[:MOST_ROWS], second[:MOST_REFERENCE]
    size = min(len(a), len(b))
    found = {
        "mmd": Measured(geodesic_mmd(space, a[:size], b[:size]), size, size),
        "mmd2": Measured(geodesic_mmd2(space, a, b), len(a), len(b)),
    }
    if cells is not None:
        found["kl"] = Measured(cells_kl(cells, first), len(first), 0, None, {"cells": cells.size})
    return found
