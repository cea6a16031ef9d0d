"""All metrics that apply to a set of samples, and their floor between two halves of the data."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int, Shaped

from core.errors import UserError
from core.metrics.density import histogram_kl
from core.metrics.features import FeatureExtractor, check_size, extract
from core.metrics.frechet import frechet
from core.metrics.kernel import energy_distance, kid
from core.metrics.nearest import nearest_accuracy
from core.metrics.precision_recall import precision_recall
from core.metrics.wasserstein import sliced_w2, subset_w2

Kind = Literal["points", "image"]
Scores = dict[str, int | float]

FEWEST = 4
"""Rows that a set has at least, to be compared."""
_MOST_PAIRED = 5000
_KID_SUBSETS = 25


def evaluate(
    samples: Shaped[np.ndarray, "n ..."],
    labels: Int[np.ndarray, " n"] | None,
    reference: Shaped[np.ndarray, "m ..."],
    reference_labels: Int[np.ndarray, " m"] | None,
    *,
    kind: Kind = "points",
    features: str | FeatureExtractor = "pixels",
    seed: int = 0,
    quick: bool = False,
) -> Scores:
    """Compares samples with reference data, in the named features.

    **Arguments:**

    - `samples`, `reference`: `(n, *shape)` and `(m, *shape)`, on the same scale.
    - `labels`, `reference_labels`: class asked for of each sample and class of each reference
      example; without either of them there is no accuracy.
    - `kind`: `"image"` adds `kid`, `"points"` in the plane adds `kl`.
    - `seed`: picks the random subsets; the same seed gives the same numbers.
    - `quick`: only the metrics that take little time: `frechet` and `accuracy`, and for points also
      `w2`, `sliced_w2` and `kl`.

    **Returns:** a dictionary with

    - `n`, `n_reference`: the two sizes, without which no number below means much;
    - `frechet`: `frechet_distance`, of all rows;
    - `accuracy`: `nearest_accuracy` against all of the reference, if there are labels;
    - `w2`: `subset_w2`, of at most 2048 rows, the mean of 3 draws (of 1 if `quick`);
    - `sliced_w2`: of all rows;
    - `precision`, `recall`: `min(n, m, 5000)` random rows of both, 3 neighbours;
    - `energy`: `energy_distance` of the same rows;
    - `kid`, `kid_std`: `kid` over 25 subsets of at most 1000 rows (`"image"`);
    - `kl`: `histogram_kl` `D(reference || samples)`, all rows (`"points"` with 2 features).

    **Raises:** `UserError` for fewer than 4 rows in a set, an unknown name of features, or pixels
    of large images (`core.metrics.features.check_size`);
    `ValueError` for shapes or scales that do not match, or values that are not finite.
    """
    _check(samples, reference, kind)
    check_size(features, samples.shape[1:])
    x, y = extract(features, samples), extract(features, reference)
    metrics: Scores = {"n": len(x), "n_reference": len(y), "frechet": frechet(x, y)}
    if labels is not None and reference_labels is not None:
        metrics["accuracy"] = nearest_accuracy(x, labels, y, reference_labels)
    if not quick or kind == "points":
        metrics["w2"] = subset_w2(x, y, draws=1 if quick else 3, seed=seed)
        metrics["sliced_w2"] = sliced_w2(x, y)
    if kind == "points" and x.shape[1] == 2:
        metrics["kl"] = histogram_kl(y, x)
    if quick:
        return metrics
    metrics |= _neighbour_metrics(x, y, seed)
    if kind == "image":
        metrics["kid"], metrics["kid_std"] = kid(x, y, subsets=_KID_SUBSETS, seed=seed)
    return metrics


def reference_floor(
    reference: Shaped[np.ndarray, "m ..."],
    labels: Int[np.ndarray, " m"] | None,
    *,
    kind: Kind = "points",
    features: str | FeatureExtractor = "pixels",
    size: int | None = None,
    seed: int = 0,
    quick: bool = False,
) -> Scores:
    """`evaluate` between two disjoint random halves of the data: the values of a perfect sampler.

    Most metrics are biased upward at a finite size, so that no sampler can be expected below the
    floor of its own size. Each half has `m // 2` rows, or `size` if that is fewer; the dictionary
    states it as `n` and `n_reference`. With fewer rows than the samples have, the floor is higher
    than theirs.

    **Raises:** as `evaluate`.
    """
    half = len(reference) // 2 if size is None else min(size, len(reference) // 2)
    order = np.random.default_rng(seed).permutation(len(reference))
    first, second = order[:half], order[half : 2 * half]
    return evaluate(
        reference[first],
        None if labels is None else labels[first],
        reference[second],
        None if labels is None else labels[second],
        kind=kind,
        features=features,
        seed=seed,
        quick=quick,
    )


def _neighbour_metrics(
    x: Float[np.ndarray, "n dim"], y: Float[np.ndarray, "m dim"], seed: int
) -> Scores:
    rng = np.random.default_rng(seed)
    size = min(len(x), len(y), _MOST_PAIRED)
    x = x[rng.choice(len(x), size, replace=False)]
    y = y[rng.choice(len(y), size, replace=False)]
    precision, recall = precision_recall(x, y)
    return {"precision": precision, "recall": recall, "energy": energy_distance(x, y)}


def _check(samples: np.ndarray, reference: np.ndarray, kind: str) -> None:
    if kind not in ("points", "image"):
        raise ValueError(f"expected the kind 'points' or 'image', got {kind!r}")
    if samples.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"samples have shape {samples.shape[1:]} and the reference {reference.shape[1:]}"
        )
    if np.issubdtype(samples.dtype, np.integer) != np.issubdtype(reference.dtype, np.integer):
        raise ValueError(
            f"samples are {samples.dtype} and the reference is {reference.dtype}: "
            "bring both to one scale first"
        )
    if min(len(samples), len(reference)) < FEWEST:
        raise UserError(
            f"got {len(samples)} samples and {len(reference)} reference examples to compare: "
            f"draw at least {FEWEST} of both"
        )
