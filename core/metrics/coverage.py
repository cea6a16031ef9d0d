"""Density and coverage: precision and recall that outliers do not spoil."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from core.metrics._distances import check_sets, neighbour_radii, squared_distances, tiles


class DensityCoverage(NamedTuple):
    """Density, 1 for equal distributions and unbounded; coverage, a fraction in `[0, 1]`."""

    density: float
    coverage: float


def density_coverage(
    samples: Float[np.ndarray, "n dim"],
    reference: Float[np.ndarray, "m dim"],
    *,
    neighbours: int = 5,
    tile: int = 512,
) -> DensityCoverage:
    """How many balls of real examples a sample lies in, and how many of them hold a sample.

    The ball of a real example reaches to its k-th neighbour among the real ones, without the edge,
    k being `neighbours`. Density is the mean number of balls around a sample over k, coverage the
    share of balls that hold a sample.

    For equal distributions density has mean 1, and coverage
    `1 - (m - 1) ... (m - k) / ((n + m - 1) ... (n + m - k))`, near `1 - 2^-k` at equal sizes,
    whatever the distribution. A collapsed sampler has a high density: read it next to coverage.
    `tile` bounds the memory (`tile` rows of distances at a time), not the result.

    **Source:** Naeem et al., "Reliable fidelity and diversity metrics for generative models"
    (2020), sec. 3; k = 5.

    **Raises:** `ValueError` unless there are more than `neighbours` real rows, a sample, and one
    dimension.
    """
    if neighbours < 1:
        raise ValueError(f"expected at least 1 neighbour, got {neighbours}")
    check_sets(samples, reference, at_least=1)
    check_sets(reference, reference, at_least=neighbours + 1)
    radii = neighbour_radii(reference, neighbours, tile)
    count, held = 0, np.zeros(len(reference), bool)
    for rows in tiles(len(samples), tile):
        inside = squared_distances(samples[rows], reference) < radii
        count += int(inside.sum())
        held |= inside.any(axis=0)
    return DensityCoverage(count / (neighbours * len(samples)), float(held.mean()))
