"""How good a map is: metrics at chosen numbers of evaluations, beside the real data's own floor."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Float, Int

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.data.starts import starts_like
from core.errors import require
from core.flow.field import VelocityField
from core.flow.path import Path
from core.metrics.evaluate import FEWEST
from core.metrics.features import FeatureExtractor
from core.oracle import KNOWN_DISTRIBUTIONS, OracleMap
from core.report.drawn import Drawn, drawn, in_pictures
from core.report.texts import text_rows, yardstick_of
from core.report.yardstick import Yardstick, of_data
from core.sampling import SAMPLERS, Drawing, check_sampler, drawing_of, generate

TableRow = dict[str, Any]

MOST_SAMPLES = 10_000
"""Samples of a row at most, where no number is given."""

MOST_BYTES = 2**30
"""Network values of samples, and of the data beside them, where no number is given."""

MAP_ERROR_SAMPLES = 2048
"""`map_error` is a mean over the first so many samples."""


def labels_like(dataset: Dataset, n: int) -> Int[np.ndarray, " n"] | int:
    """`n` labels in the proportions of the data, in a fixed order; `n` itself without labels."""
    if dataset.labels is None:
        return n
    order = np.random.default_rng(0).permutation(len(dataset.labels))
    return dataset.labels[np.resize(order, n)]


def check_measurable(dataset: Dataset) -> None:
    """Raises `UserError` for data that are too few to be compared with."""
    require(measurable(dataset), too_few(dataset))


def measurable(dataset: Dataset) -> bool:
    """Whether both halves of the data, of which the floor is made, are large enough to compare."""
    return len(dataset) >= 2 * FEWEST


def too_few(dataset: Dataset) -> str:
    """Why data are not measurable."""
    return f"too few examples to measure by: {len(dataset)}, where it takes {2 * FEWEST} at least"


def samples_to_measure(dataset: Dataset, most: int = MOST_SAMPLES) -> int:
    """The samples of a row where no number is given: as many as the data, `most` at most, and no
    more than fit in a gigabyte."""
    return min(len(dataset), most, samples_that_fit(dataset.spec))


def samples_that_fit(spec: DataSpec) -> int:
    """How many samples take a gigabyte as network values, 64 at least."""
    return max(MOST_BYTES // (4 * max(math.prod(spec.shape), 1)), 64)


def evaluate_map(
    field: VelocityField,
    dataset: Dataset,
    drawings: Mapping[str, Sequence[Drawing]],
    *,
    n: int,
    features: str | FeatureExtractor = "pixels",
    seed: int = 0,
    quick: bool = False,
    coupled: bool = False,
    progress: Callable[[int], None] | None = None,
) -> list[TableRow]:
    """One row of metrics for each drawing, all from the same noise, or from the same examples of
    the other end where the data have one.

    **Arguments:** `drawings` by the name of their sampler; `n` samples a row; `features` see
    `core.metrics.FEATURES`; `quick` takes only the metrics that cost little; `coupled`: as in
    `Drawing`; `progress` is called with the number of samples made. Raises `UserError` for a
    sampler that the map cannot serve. A row's `nfe` is the number of evaluations that was used,
    which for an adaptive sampler differs from the one asked for. Of tokens the figures are those of
    `core.report.texts`.
    """
    if dataset.kind == "tokens":
        return text_rows(field, dataset, drawings, n=n, seed=seed, progress=progress)
    stick = of_data(dataset, features, reference_index(dataset))
    labels, starts, rows = labels_like(dataset, n), starts_like(dataset, n, seed), []
    for name, several in drawings.items():
        for drawing in several:
            drawing = replace(drawing, starts=starts, coupled=coupled)
            check_sampler(name, drawing.sampler, field)
            samples = drawn(field, drawing, dataset.shape, labels, seed=seed, progress=progress)
            samples = in_pictures(samples, dataset.spec)
            numbers, _ = stick.measure(samples, seed=seed, quick=quick)
            head = head_of(name, drawing, samples, stick)
            rows.append(
                {**head, **numbers, **map_error(samples, drawing, field, dataset.name, seed)}
            )
    return rows


def head_of(name: str, drawing: Drawing, samples: Drawn, stick: Yardstick) -> TableRow:
    """What a row is of."""
    head = {"sampler": name, "steps": drawing.steps, "nfe": samples.nfe}
    scale = {} if drawing.guidance is None else {"guidance": drawing.guidance[0]}
    return {**head, "features": stick.extractor.name, **scale}


def reference_index(dataset: Dataset) -> Int[np.ndarray, " m"]:
    """The examples that samples are compared with: all, or evenly spaced ones where these would
    take more than a gigabyte as network values, or lie on disk and are more than 10,000."""
    most = (
        samples_that_fit(dataset.spec)
        if dataset.resident
        else min(samples_that_fit(dataset.spec), MOST_SAMPLES)
    )
    return evenly(np.arange(len(dataset)), most)


def evenly(index: Int[np.ndarray, " m"], count: int) -> Int[np.ndarray, " n"]:
    """So many of these, evenly spaced, or all where there are no more."""
    return index[np.linspace(0, len(index) - 1, min(count, len(index))).astype(int)]


def reference_values(dataset: Dataset) -> np.ndarray:
    """The examples of `reference_index` as network values."""
    return _network_values(dataset, reference_index(dataset))


def _network_values(dataset: Dataset, index: Int[np.ndarray, " m"]) -> np.ndarray:
    return np.asarray(dataset.decode(dataset.take(index)))


def floor_row(
    dataset: Dataset,
    n: int,
    *,
    features: str | FeatureExtractor = "pixels",
    quick: bool = False,
) -> TableRow:
    """The same metrics between two disjoint random sets of real data, of `n` or half of them; of
    tokens those of texts that were held out."""
    if dataset.kind == "tokens":
        return yardstick_of(dataset).held_out(dataset, n)
    stick = of_data(dataset, features, reference_index(dataset))
    return {"features": stick.extractor.name, **stick.floor(n, quick=quick)[0]}


def floor_name(dataset: Dataset) -> str:
    """What the floor is of."""
    if dataset.kind != "tokens":
        return "real against real"
    return "training text" if dataset.held is None else "held-out text"


def map_error(
    samples: Drawn, drawing: Drawing, field: VelocityField, data: str, seed: int
) -> TableRow:
    """Mean distance to the exact flow map from the same noise, where the data have a known one.

    Where the sampler draws noise, samples are no function of the first noise, and there is none;
    nor where they start from data, or training had noise that depends on the data.
    """
    other = drawing.starts is not None or drawing.coupled
    if data not in KNOWN_DISTRIBUTIONS or other or drawing.sampler.draws_noise(drawing.steps):
        return {}
    found = samples.read(np.arange(min(samples.n, MAP_ERROR_SAMPLES)))
    exact = _exact_samples(data, field.path, len(found), seed)
    return {"map_error": float(np.linalg.norm(found - exact, axis=-1).mean())}


@functools.lru_cache(maxsize=8)
def _exact_samples(name: str, path: Path, n: int, seed: int) -> Float[np.ndarray, "n dim"]:
    """The exact map at the noise of `generate`, whose first `n` draws are those of any `n`.

    Kept, because every row of a table starts from the same noise. 2,048 samples of the checkerboard
    take one or two seconds of one core after some seconds of compilation; in float32 they are 3e-5
    off in the mean and 2e-3 at most.
    """
    distribution = KNOWN_DISTRIBUTIONS[name]()
    exact = generate(
        OracleMap(problem=distribution, path=path),
        drawing_of(SAMPLERS["pushforward"], path),
        distribution.shape,
        n,
        key=jr.key(seed),
    ).x
    exact.setflags(write=False)
    return exact
