"""Class accuracy by nearest neighbour: does a sample look like the class that was asked for?"""

import numpy as np
from jaxtyping import Float, Int

from core.metrics._distances import check_sets, squared_distances, tiles


def nearest_labels(
    samples: Float[np.ndarray, "n dim"],
    reference: Float[np.ndarray, "m dim"],
    reference_labels: Int[np.ndarray, " m"],
    *,
    tile: int = 512,
) -> Int[np.ndarray, " n"]:
    """Label of the nearest reference row of each sample; of equally near ones the first.

    `tile` bounds the memory (`tile` rows of distances at a time), not the result.

    **Raises:** `ValueError` if the dimensions differ, a set is empty, or labels and rows do not
    match in number.
    """
    check_sets(samples, reference, at_least=1)
    if len(reference) != len(reference_labels):
        raise ValueError(f"got {len(reference_labels)} labels for {len(reference)} reference rows")
    nearest = [
        np.argmin(squared_distances(samples[rows], reference), axis=1)
        for rows in tiles(len(samples), tile)
    ]
    return np.asarray(reference_labels)[np.concatenate(nearest)]


def nearest_accuracy(
    samples: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, " n"],
    reference: Float[np.ndarray, "m dim"],
    reference_labels: Int[np.ndarray, " m"],
    *,
    tile: int = 512,
) -> float:
    """Fraction of samples whose nearest reference row has the label that was asked for.

    It says nothing about variety, and copies of the reference score 1: read it next to recall. On
    real held-out data it is the accuracy of the classifier itself, the most to hope for.

    **Raises:** `ValueError` as in `nearest_labels`, or if labels and samples differ in number.
    """
    if len(samples) != len(labels):
        raise ValueError(f"got {len(labels)} labels for {len(samples)} samples")
    found = nearest_labels(samples, reference, reference_labels, tile=tile)
    return float(np.mean(found == np.asarray(labels)))
