"""All metrics that apply to a set of samples, and their floor between two halves of the data."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from core.data.spec import RANKS, Kind
from core.errors import UserError
from core.metrics.coverage import density_coverage
from core.metrics.density import histogram_kl
from core.metrics.feature_set import FeatureSet, Rows
from core.metrics.features import FeatureExtractor, check_size, extract
from core.metrics.frechet import frechet_distance
from core.metrics.inception_score import inception_score
from core.metrics.kernel import energy_distance, kid
from core.metrics.nearest import nearest_accuracy
from core.metrics.precision_recall import precision_recall
from core.metrics.wasserstein import sliced_w2, subset_w2

Scores = dict[str, int | float | None]

FEWEST = 4
"""Rows that a set has at least, to be compared."""
LARGE = 10_000
"""Samples from which on numbers are as they are published: 100 subsets for the kernel distance, and
no more than so many random rows for what grows with the square of their number."""
_MOST_PAIRED = 5000
_KID_SUBSETS, _KID_SIZE = 25, 1000
_PUBLISHED_SUBSETS = 100
_NEAREST, _BALLS = 3, 5


@dataclass(frozen=True)
class Measured:
    """One number and how it was made.

    **Fields:** `n` samples against `n_reference` examples, of which the latter is None where a file
    of statistics does not say it, and 0 where there is no reference; `std`, a deviation that
    belongs to it; `settings`, what else it depends on.
    """

    value: float
    n: int
    n_reference: int | None
    std: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)


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
    - `kind`: other than `"points"` adds `kid`, `"points"` in the plane adds `kl`.
    - `seed`: picks the random subsets; the same seed gives the same numbers.
    - `quick`: only the metrics that take little time: `frechet` and `accuracy`, and for points also
      `w2`, `sliced_w2` and `kl`.

    **Returns:** a dictionary with `n` and `n_reference`, without which no number means much, and
    the metrics of `compare`.

    **Raises:** `UserError` for fewer than 4 rows in a set, an unknown name of features, or pixels
    of large images (`core.metrics.features.check_size`);
    `ValueError` for shapes or scales that do not match, or values that are not finite.
    """
    _check(samples, reference, kind)
    check_size(features, samples.shape[1:])
    x = FeatureSet(extract(features, samples), labels)
    y = FeatureSet(extract(features, reference), reference_labels)
    return flat(x, y, compare(x, y, kind=kind, seed=seed, quick=quick))


def compare(
    x: FeatureSet,
    y: FeatureSet,
    *,
    kind: Kind = "points",
    seed: int = 0,
    quick: bool = False,
    allow_few: bool = True,
) -> dict[str, Measured]:
    """Compares the samples `x` with the reference `y`, both in the same features.

    **Returns:** by name, where they apply:

    - `frechet`: `frechet_distance`, of all rows; without `allow_few` only where both sets have more
      rows than there are features;
    - `accuracy`: `nearest_accuracy` against all of the reference, if there are labels;
    - `w2`: `subset_w2`, of at most 2048 rows, the mean of 3 draws (of 1 if `quick`);
    - `sliced_w2`: of all rows;
    - `precision`, `recall`: `min(n, m, 5000)` random rows of both, 3 neighbours;
    - `energy`: `energy_distance` of the same rows;
    - `density`, `coverage`: `min(n, m, 10000)` random rows of both, 5 neighbours;
    - `kid`: over 25 subsets of at most 1000 rows, 100 of more than 10,000 samples (not
      of `"points"`);
    - `inception_score`: of all samples, in parts of 5000 (where the samples have logits);
    - `kl`: `histogram_kl` `D(reference || samples)`, all rows (`"points"` with 2 features).

    A reference without rows leaves `frechet` and the score. Of more than 10,000 samples `accuracy`,
    `w2` and `sliced_w2` take as many random rows of both, and so of a set that is not in memory.

    **Raises:** `UserError` for sets of other features or fewer than 4 rows.
    """
    _check_sets(x, y)
    assert x.rows is not None and x.n is not None
    found: dict[str, Measured] = {}
    if allow_few or enough(x, y):
        value = frechet_distance(x.statistics, y.statistics)
        found["frechet"] = Measured(value, x.n, y.n)
    if y.rows is not None:
        found |= _between(x, y, kind, seed, quick)
    if not quick and x.logits is not None:
        score = inception_score(x.logits)
        settings = {"splits": score.splits}
        found["inception_score"] = Measured(score.mean, x.n, 0, score.std, settings)
    return found


def enough(x: FeatureSet, y: FeatureSet) -> bool:
    """Whether both covariances have full rank, so that a Frechet distance means something. A file
    of statistics that does not say its size is taken to be large enough."""
    return all(one.n is None or one.n > one.dim for one in (x, y))


def flat(x: FeatureSet, y: FeatureSet, found: dict[str, Measured]) -> Scores:
    """The numbers alone, with the sizes of both sets; a deviation is named `<metric>_std`."""
    scores: Scores = {"n": x.n, "n_reference": y.n}
    for name, one in found.items():
        scores[name] = one.value
        if one.std is not None:
            scores[f"{name}_std"] = one.std
    return scores


def _between(
    x: FeatureSet, y: FeatureSet, kind: Kind, seed: int, quick: bool
) -> dict[str, Measured]:
    assert x.rows is not None and y.rows is not None
    found: dict[str, Measured] = {}
    large = len(x.rows) > LARGE
    first, second = _in_memory(x, large, seed), _in_memory(y, large, seed + 1)
    a, b = first.rows, second.rows
    assert isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    if first.labels is not None and second.labels is not None:
        value = nearest_accuracy(a, first.labels, b, second.labels)
        found["accuracy"] = Measured(value, len(a), len(b), None, {"judge": "nearest neighbour"})
    if not quick or kind == "points":
        draws = 1 if quick else 3
        value, size = subset_w2(a, b, draws=draws, seed=seed), min(2048, len(a), len(b))
        found["w2"] = Measured(value, size, size, None, {"draws": draws})
        found["sliced_w2"] = Measured(sliced_w2(a, b), len(a), len(b))
    if kind == "points" and x.dim == 2:
        found["kl"] = Measured(histogram_kl(b, a), len(a), len(b))
    if quick:
        return found
    found |= _neighbour_metrics(x.rows, y.rows, seed)
    if kind != "points":
        subsets = _PUBLISHED_SUBSETS if large else _KID_SUBSETS
        one = kid(x.rows, y.rows, subsets=subsets, subset_size=_KID_SIZE, seed=seed)
        settings = {"subsets": subsets, "subset_size": one.size}
        found["kid"] = Measured(one.mean, len(x.rows), len(y.rows), one.std, settings)
    return found


def _in_memory(one: FeatureSet, large: bool, seed: int) -> FeatureSet:
    """The set itself, or so many random rows of it where it, or the set of samples, is large."""
    assert one.rows is not None
    if len(one.rows) <= LARGE or (isinstance(one.rows, np.ndarray) and not large):
        return one if isinstance(one.rows, np.ndarray) else one.part(np.arange(len(one.rows)))
    rng = np.random.default_rng(seed)
    return one.part(np.sort(rng.choice(len(one.rows), LARGE, replace=False)))


def _neighbour_metrics(x: Rows, y: Rows, seed: int) -> dict[str, Measured]:
    size = min(len(x), len(y), _MOST_PAIRED)
    a, b = _pair(x, y, size, seed)
    nearest = precision_recall(a, b, neighbours=_NEAREST)
    found = {
        "precision": Measured(nearest.precision, size, size, None, {"k": _NEAREST}),
        "recall": Measured(nearest.recall, size, size, None, {"k": _NEAREST}),
        "energy": Measured(energy_distance(a, b), size, size),
    }
    size = min(len(x), len(y), LARGE)
    if size <= _BALLS:
        return found
    balls = density_coverage(*_pair(x, y, size, seed), neighbours=_BALLS)
    found["density"] = Measured(balls.density, size, size, None, {"k": _BALLS})
    found["coverage"] = Measured(balls.coverage, size, size, None, {"k": _BALLS})
    return found


def _pair(
    x: Rows, y: Rows, size: int, seed: int
) -> tuple[Float[np.ndarray, "size dim"], Float[np.ndarray, "size dim"]]:
    """Random rows of both."""
    rng = np.random.default_rng(seed)
    first = x[rng.choice(len(x), size, replace=False)]
    return first, y[rng.choice(len(y), size, replace=False)]


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
    check_size(features, reference.shape[1:])
    y = FeatureSet(extract(features, reference), labels)
    first, second = halves(y, size, seed)
    return flat(first, second, compare(first, second, kind=kind, seed=seed, quick=quick))


def halves(y: FeatureSet, size: int | None = None, seed: int = 0) -> tuple[FeatureSet, FeatureSet]:
    """Two disjoint random parts of the rows, a half of them each or `size` if that is fewer."""
    assert y.rows is not None
    half = len(y.rows) // 2 if size is None else min(size, len(y.rows) // 2)
    order = np.random.default_rng(seed).permutation(len(y.rows))
    return y.part(order[:half]), y.part(order[half : 2 * half])


def _check(samples: np.ndarray, reference: np.ndarray, kind: str) -> None:
    if kind not in RANKS:
        raise ValueError(f"expected one of the kinds {', '.join(RANKS)}, got {kind!r}")
    if samples.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"samples have shape {samples.shape[1:]} and the reference {reference.shape[1:]}"
        )
    if np.issubdtype(samples.dtype, np.integer) != np.issubdtype(reference.dtype, np.integer):
        raise ValueError(
            f"samples are {samples.dtype} and the reference is {reference.dtype}: "
            "bring both to one scale first"
        )


def _check_sets(x: FeatureSet, y: FeatureSet) -> None:
    if x.dim != y.dim:
        raise UserError(f"samples have {x.dim:,} features and the reference {y.dim:,}")
    fewest = [FEWEST if one.n is None else one.n for one in (x, y)]
    if min(fewest) < FEWEST:
        raise UserError(
            f"got {fewest[0]} samples and {fewest[1]} reference examples to compare: "
            f"draw at least {FEWEST} of both"
        )
