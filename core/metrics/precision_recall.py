"""Precision and recall: do samples lie where the data are, and the other way round."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from core.metrics._distances import check_sets, neighbour_radii, squared_distances, tiles


class PrecisionRecall(NamedTuple):
    """Fractions in `[0, 1]`: samples inside the data, data inside the samples."""

    precision: float
    recall: float


def precision_recall(
    samples: Float[np.ndarray, "n dim"],
    reference: Float[np.ndarray, "m dim"],
    *,
    neighbours: int = 3,
    tile: int = 512,
) -> PrecisionRecall:
    """Improved precision and recall with k-nearest-neighbour manifolds.

    The manifold of a set is the union of the balls around its points that reach their `neighbours`
    th neighbour in the set. Precision is the fraction of samples in the manifold of the reference,
    recall the fraction of the reference in that of the samples.

    Both depend strongly on the two sizes and on outliers: compare values of equal sizes only.
    `tile` bounds the memory (`tile` rows of distances at a time), not the result.

    **Source:** Kynkaanniemi et al., "Improved precision and recall metric for assessing generative
    models" (2019), eqs. 1 and 2, k = 3.

    **Raises:** `ValueError` unless both sets have more than `neighbours` rows and one dimension.
    """
    if neighbours < 1:
        raise ValueError(f"expected at least 1 neighbour, got {neighbours}")
    check_sets(samples, reference, at_least=neighbours + 1)
    precision = _inside(samples, reference, neighbours, tile).mean()
    recall = _inside(reference, samples, neighbours, tile).mean()
    return PrecisionRecall(float(precision), float(recall))


def _inside(
    points: Float[np.ndarray, "n dim"],
    centres: Float[np.ndarray, "m dim"],
    neighbours: int,
    tile: int,
) -> Bool[np.ndarray, " n"]:
    radii = neighbour_radii(centres, neighbours, tile)
    found = [
        np.any(squared_distances(points[rows], centres) <= radii, axis=1)
        for rows in tiles(len(points), tile)
    ]
    return np.concatenate(found)
