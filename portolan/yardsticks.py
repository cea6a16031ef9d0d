"""By what a model is measured: features, the reference in them, labels, a judge."""

from collections.abc import Callable, Sequence
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import UserError, require
from core.metrics.features import FeatureExtractor, default_features
from core.metrics.naming import is_network, origin_of, size_of
from core.metrics.reference import ReferenceFile, check_reference, read_reference
from core.report.drawn import Labels
from core.report.evaluation import (
    MOST_SAMPLES,
    check_measurable,
    evenly,
    labels_like,
    reference_index,
    samples_that_fit,
    samples_to_measure,
)
from core.report.rows import Judge
from core.report.yardstick import Yardstick, of_data, of_file
from core.train.features import open_classifier
from core.train.named_features import open_features
from portolan.model import Model
from portolan.progress import Meter

NETWORK = "efficientnet-lite0"
"""The features of pictures where none are named and the weights are installed."""
WITH_NETWORK = 3000
"""Samples, and examples of the data, of which features by a network are taken where no number is
given: halves of them are more than the 1,280 of `NETWORK`, so that covariances have full rank."""

IN_SPACE = 10
"""Samples on a manifold where no number is given, in units of the reference."""

Say = Callable[[str], None]


def data_of(model: Model, stats: Sequence[str], say: Say) -> Dataset | None:
    """The data of a model; None where files of statistics stand for them and they do not open."""
    if not stats:
        dataset = model.dataset()
        check_measurable(dataset)
        return dataset
    try:
        return model.dataset()
    except UserError as error:
        say(f"no data beside the statistics ({error})")
        return None


def extractors_of(spec: DataSpec, names: Sequence[str], say: Say) -> list[FeatureExtractor]:
    """The features of these names; where there are none, those that suit the data."""
    if names:
        require(len(set(names)) == len(names), "--features names the same features twice")
        return [open_features(name, spec.picture_shape) for name in names]
    name = default_features(spec.picture_shape, NETWORK)
    if name != NETWORK:
        return [open_features(name, spec.picture_shape)]
    try:
        return [open_features(NETWORK, spec.picture_shape)]
    except UserError as missing:
        say(f"pooled features, means over 8 x 8 cells, since there are no real ones: {missing}")
        return [open_features("pooled", spec.picture_shape)]


def number_of_samples(
    spec: DataSpec, dataset: Dataset | None, extractors: Sequence[FeatureExtractor]
) -> int:
    """The samples of a row where no number is given."""
    if spec.space and dataset is not None:
        return min(IN_SPACE * len(dataset), samples_that_fit(spec))
    most = WITH_NETWORK if any(map(is_network, extractors)) else MOST_SAMPLES
    return (
        min(samples_that_fit(spec), most) if dataset is None else samples_to_measure(dataset, most)
    )


def labels_of(spec: DataSpec, dataset: Dataset | None, n: int) -> tuple[Labels, str]:
    """Labels of samples, and how classes are shared out: as in the data, or evenly without them."""
    if spec.num_classes == 0:
        return n, "none"
    if dataset is None or dataset.labels is None:
        return np.arange(n, dtype=np.int32) % spec.num_classes, "balanced"
    return labels_like(dataset, n), "in the data's shares"


def judge_of(folder: str | None, spec: DataSpec) -> Judge | None:
    """The classifier in a run folder of `apps.features`, for these data."""
    if folder is None:
        return None
    classifier = open_classifier(folder, spec)
    logits = eqx.filter_jit(lambda model, x: jax.vmap(model)(x))

    def classes(x: np.ndarray) -> np.ndarray:
        return np.asarray(logits(classifier, jnp.asarray(x, jnp.float32))).argmax(axis=1)

    return Judge(f"classifier {Path(folder).name}", classes)


def sticks_of(
    spec: DataSpec,
    dataset: Dataset | None,
    extractors: Sequence[FeatureExtractor],
    stats: Sequence[str],
    *,
    n: int,
    allow_few: bool,
    progress: bool = True,
) -> tuple[list[Yardstick], list[Yardstick | None]]:
    """A yardstick for each features; and, where its reference is a file, another one of the data,
    where there are any."""
    files = [(path, read_reference(path)) for path in stats]
    chosen = _matched(extractors, files, spec)
    sticks: list[Yardstick] = []
    beside: list[Yardstick | None] = []
    for extractor, file in zip(extractors, chosen):
        few = allow_few or not is_network(extractor)
        data = None
        if dataset is not None:
            index = _examples(dataset, extractor, n)
            shown = progress and is_network(extractor)
            with Meter(f"data in {extractor.name}", len(index), shown=shown) as to:
                data = of_data(dataset, extractor, index, allow_few=few, progress=to.more)
        if file is None:
            assert data is not None
            sticks.append(data)
            beside.append(None)
            continue
        path, found = file
        shown = progress and found.pictures > 0
        with Meter(f"pictures of {found.name}", found.pictures, shown=shown) as to:
            sticks.append(
                of_file(found, path, extractor, spec.kind, allow_few=few, progress=to.more)
            )
        beside.append(data)
    return sticks, beside


def _matched(
    extractors: Sequence[FeatureExtractor],
    files: Sequence[tuple[str, ReferenceFile]],
    spec: DataSpec,
) -> list[tuple[str, ReferenceFile] | None]:
    """The file of statistics of each features, if there is one. Raises `UserError` for a file that
    is of none of them."""
    chosen: list[tuple[str, ReferenceFile] | None] = [None] * len(extractors)
    sizes = [size_of(one, spec.picture_shape) for one in extractors]
    for path, found in files:
        size = found.statistics.mean.size
        fits = [
            i
            for i, one in enumerate(extractors)
            if chosen[i] is None and sizes[i] == size and found.features in ("", one.name)
        ]
        if not fits:
            require(None in chosen, f"{found.name} is one file of statistics more than --features")
        i = fits[0] if fits else chosen.index(None)
        check_reference(
            found, extractors[i].name, origin_of(extractors[i]).weights_sha256, sizes[i]
        )
        chosen[i] = path, found
    return chosen


def _examples(dataset: Dataset, extractor: FeatureExtractor, n: int) -> Int[np.ndarray, " m"]:
    """The examples of the data that are the reference: for a network as many as there are samples,
    at least `WITH_NETWORK`, evenly spaced."""
    index = reference_index(dataset)
    if not is_network(extractor):
        return index
    return evenly(index, max(n, WITH_NETWORK))
