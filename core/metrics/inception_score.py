"""Inception score: are samples recognised, and do they differ from one another?"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from core.metrics.feature_set import Rows

SPLIT = 5000
"""Samples of one part, as in the evaluator of ADM."""


class InceptionScore(NamedTuple):
    """The mean over `splits` parts, their deviation, and how many they are."""

    mean: float
    std: float
    splits: int


def inception_score(logits: Rows, *, split_size: int = SPLIT) -> InceptionScore:
    """`exp E_x KL(p(y | x) || p(y))` of logits `(n, classes)`, the mean over parts of about
    `split_size` samples in order.

    `p(y | x)` is the softmax of a row and `p(y)` its mean over the part. It lies between 1 and the
    number of classes: all samples alike, or all sure and spread evenly. There are `n / split_size`
    parts, rounded, one at least, as equal as `n` allows; at multiples of `split_size` they are
    those of ADM. It looks at no data, so a score above that of real data is no better, and it does
    not see a class that is one picture. It rises with the size of a part: state it.

    **Source:** Salimans et al., "Improved techniques for training GANs" (2016), sec. 4; the parts:
    Dhariwal and Nichol, "Diffusion models beat GANs on image synthesis" (2021), evaluator.

    **Raises:** `ValueError` for no logits, or `split_size < 1`.
    """
    if len(logits) < 1 or split_size < 1:
        raise ValueError(f"expected samples and split_size >= 1, got {len(logits)}, {split_size}")
    splits = max(round(len(logits) / split_size), 1)
    parts = np.array_split(np.arange(len(logits)), splits)
    scores = [_score(logits[part]) for part in parts]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), splits)


def _score(logits: Float[np.ndarray, "n classes"]) -> float:
    from scipy.special import log_softmax, logsumexp

    log_p = log_softmax(np.asarray(logits, np.float64), axis=1)
    log_mean = logsumexp(log_p, axis=0) - np.log(len(log_p))
    divergences = np.sum(np.exp(log_p) * (log_p - log_mean), axis=1)
    return float(np.exp(divergences.mean()))
