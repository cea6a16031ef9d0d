"""Examples of the other end of a path, where that is a data set, to start samples from."""

import numpy as np
from jaxtyping import Float

from core.data.dataset import Dataset


def start_values(
    starts: Dataset, n: int, seed: int = 0, paired: bool = False
) -> Float[np.ndarray, " n *shape"]:
    """`n` examples as network values, in a random order of this seed; again from the first where
    there are fewer. `paired`: those whose labels `core.report.evaluation.labels_like` gives."""
    order = np.random.default_rng(0 if paired else (seed, 1)).permutation(len(starts))
    return np.asarray(starts.decode(starts.take(np.resize(order, n))))


def starts_like(dataset: Dataset, n: int, seed: int = 0) -> Float[np.ndarray, " n *shape"] | None:
    """`start_values` of a data set's other end; None where that is noise."""
    if dataset.starts is None:
        return None
    return start_values(dataset.starts, n, seed, dataset.paired)
