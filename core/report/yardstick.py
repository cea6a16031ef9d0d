"""What samples are compared with in some features, and how each number came about."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from core.data.dataset import Dataset
from core.data.record import fingerprint
from core.data.spec import Kind
from core.metrics.evaluate import Measured, compare, flat, halves
from core.metrics.feature_set import FeatureSet, Gathered, Index, Rows, in_pieces
from core.metrics.features import (
    PIECE,
    FeatureExtractor,
    check_size,
    extract,
    get_features,
)
from core.metrics.geodesic import compare_in_space
from core.metrics.moments import streamed
from core.metrics.naming import distance_title, is_network, origin_of
from core.metrics.reference import ReferenceFile, pictures_of
from core.report.drawn import Drawn, examples
from core.sampling.shards import ROUNDING, from_bytes
from core.shards import Shards, found_shards
from core.spaces import space_of

Progress = Callable[[int], None] | None
Row = dict[str, Any]

MOST_ROW_BYTES = 2**29
"""Features of a set that are kept in memory as float64; more are read again when they are used."""


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Features, and the reference in them.

    **Fields:** `extractor`; `reference`; `name`, `sha256` and `fingerprint` of what it was made of,
    empty where they are not known; `kind` of the examples; `allow_few`, whether a Frechet distance
    is taken where there are no more examples than features; `space` of points that are compared by
    geodesic distances, and `cells`, their density where it is known.
    """

    extractor: FeatureExtractor
    reference: FeatureSet
    kind: Kind
    name: str
    sha256: str = ""
    fingerprint: str = ""
    allow_few: bool = True
    space: str = ""
    cells: Float[np.ndarray, "..."] | None = None

    def measure(
        self, drawn: Drawn, *, seed: int = 0, quick: bool = False, progress: Progress = None
    ) -> tuple[Row, dict[str, Measured]]:
        """The numbers of a row of samples: plain ones, and with what they depend on."""
        shown = progress if is_network(self.extractor) else None
        x = samples_in(self.extractor, drawn, quick, shown)
        return self._compared(x, self.reference, seed, quick)

    def against(self, data: FeatureSet) -> tuple[Row, dict[str, Measured]]:
        """The numbers of real data in the place of samples."""
        return self._compared(data, self.reference, 0, False)

    def floor(
        self, n: int, *, seed: int = 0, quick: bool = False
    ) -> tuple[Row, dict[str, Measured]]:
        """The same between two disjoint parts of the reference, of `n` or half of it."""
        first, second = halves(self.reference, n, seed)
        return self._compared(first, second, seed, quick)

    def _compared(
        self, x: FeatureSet, y: FeatureSet, seed: int, quick: bool
    ) -> tuple[Row, dict[str, Measured]]:
        if self.space:
            found = compare_in_space(x, y, space_of(self.space), self.cells)
            return flat(x, y, found), found
        found = compare(x, y, kind=self.kind, seed=seed, quick=quick, allow_few=self.allow_few)
        return flat(x, y, found), found

    def too_few(self, n: int) -> str | None:
        """A line on a Frechet distance of `n` samples that has no full rank, or None."""
        dim, m = self.reference.dim, self.reference.n
        if n > dim and (m is None or m > dim):
            return None
        fewer = n if m is None else min(n, m)
        what = "is too high to be compared" if self.allow_few else "is left out (--allow-few)"
        return (
            f"{self.extractor.name}: {dim:,} features need more than {dim:,} samples and as many "
            f"examples, and there are {fewer:,}, so the Frechet distance {what}; kid works with "
            "1,000"
        )

    def entries(self, found: dict[str, Measured], head: Row) -> list[Row]:
        """Each number with all that it depends on, for `eval.json`; `head` is what they share."""
        return [self._entry(name, one, head) for name, one in found.items()]

    def _entry(self, name: str, one: Measured, head: Row) -> Row:
        origin, settings = origin_of(self.extractor), dict(one.settings)
        title = distance_title(self.extractor, one.n) if name == "frechet" else name
        network = is_network(self.extractor)
        return {
            "metric": name,
            "title": title,
            "value": one.value,
            "std": one.std,
            "features": self.extractor.name,
            "features_sha256": origin.weights_sha256 or None,
            "resize": origin.resize,
            "rounding": f"{ROUNDING}; {origin.rounding}"
            if network
            else head.get("rounding", "none"),
            "n": one.n,
            "n_reference": one.n_reference,
            "reference": self.name if one.n_reference != 0 else None,
            "reference_sha256": self.sha256 or None,
            "reference_fingerprint": self.fingerprint or None,
            "k": settings.pop("k", None),
            "splits": settings.pop("splits", None),
            **settings,
            **{key: value for key, value in head.items() if key != "rounding"},
        }


def of_data(
    dataset: Dataset,
    features: str | FeatureExtractor,
    index: Int[np.ndarray, " m"],
    *,
    allow_few: bool = True,
    progress: Progress = None,
) -> Yardstick:
    """A yardstick of these examples of the data; of latents of the pictures that their codec makes
    of them."""
    extractor = get_features(features)
    spec = dataset.spec
    check_size(extractor, spec.picture_shape)

    real = examples(dataset, index)
    reference = _in_features(extractor, real.read, real.n, real.labels, progress)
    return Yardstick(
        extractor, reference, dataset.kind, dataset.name, fingerprint=fingerprint(dataset),
        allow_few=allow_few, space=dataset.space, cells=dataset.cells,
    )  # fmt: skip


def of_file(
    found: ReferenceFile,
    path: str | Path,
    extractor: FeatureExtractor,
    kind: Kind,
    *,
    allow_few: bool = True,
    progress: Progress = None,
) -> Yardstick:
    """A yardstick of a file of statistics in these features (`check_reference`); its rows are those
    that it keeps, or the features of the pictures in it."""
    rows = found.sample
    if rows is None and found.pictures:
        parts = []
        for pictures in pictures_of(path, 256):
            parts.append(extract(extractor, from_bytes(pictures)))
            if progress is not None:
                progress(len(pictures))
        rows = np.concatenate(parts)
    reference = FeatureSet(rows, given=found.statistics)
    return Yardstick(
        extractor, reference, kind, found.name, sha256=found.sha256, allow_few=allow_few
    )


def samples_in(
    extractor: FeatureExtractor, drawn: Drawn, quick: bool = False, progress: Progress = None
) -> FeatureSet:
    """Samples in some features. Those of a network are kept beside samples that lie on disk."""
    if drawn.folder is None or not is_network(extractor):
        found = _in_features(extractor, drawn.read, drawn.n, drawn.labels, progress)
    else:
        rows = _kept(extractor, drawn, progress)
        given = streamed(rows[index] for index in in_pieces(drawn.n, PIECE))
        found = FeatureSet(rows, drawn.labels, given)
    return found if quick else replace(found, logits=_logits(extractor, drawn, found))


def _logits(extractor: FeatureExtractor, drawn: Drawn, found: FeatureSet) -> Rows | None:
    """Logits of the network's own classes: from the features where `classify` gives them, else from
    the samples; None where there are no classes."""
    classify, logits = (getattr(extractor, name, None) for name in ("classify", "logits"))
    if classify is not None and found.rows is not None:
        rows = found.rows
        return _by_pieces(drawn.n, lambda index: classify(rows[index]))
    return None if logits is None else _by_pieces(drawn.n, lambda index: logits(drawn.read(index)))


def _by_pieces(count: int, compute: Callable[[Index], np.ndarray]) -> np.ndarray:
    parts = [np.asarray(compute(part), np.float32) for part in in_pieces(count, PIECE)]
    return np.concatenate(parts)


def _in_features(
    extractor: FeatureExtractor,
    read: Callable[[Index], np.ndarray],
    count: int,
    labels: Int[np.ndarray, " n"] | None,
    progress: Progress,
) -> FeatureSet:
    """A set of `count` examples: its rows in memory where they are small enough, else in float32
    for a network's and computed again for others', with streamed statistics."""

    def rows(index: Index) -> np.ndarray:
        return extract(extractor, read(index))

    first = rows(np.arange(min(count, PIECE)))
    dim = first.shape[1]
    if count * dim * 8 <= MOST_ROW_BYTES:
        whole = _filled(np.empty((count, dim)), first, rows, progress)
        return FeatureSet(whole, labels)
    if is_network(extractor):
        whole = _filled(np.empty((count, dim), np.float32), first, rows, progress)
        kept = Gathered(count, dim, lambda index: whole[index])
        return FeatureSet(kept, labels, streamed(kept[part] for part in in_pieces(count, PIECE)))
    pieces = (rows(part) for part in in_pieces(count, PIECE))
    given = streamed(_counted(piece, progress) for piece in pieces)
    return FeatureSet(Gathered(count, dim, rows), labels, given)


def _filled(
    whole: np.ndarray, first: np.ndarray, rows: Callable[[Index], np.ndarray], progress: Progress
) -> np.ndarray:
    for part in in_pieces(len(whole), PIECE):
        whole[part] = _counted(first if part[0] == 0 else rows(part), progress)
    return whole


def _counted(piece: np.ndarray, progress: Progress) -> np.ndarray:
    if progress is not None:
        progress(len(piece))
    return piece


def _kept(extractor: FeatureExtractor, drawn: Drawn, progress: Progress) -> Gathered:
    """The features of stored samples by a network, in float32, in pieces beside them: those that
    are there are not computed again."""
    assert drawn.folder is not None and drawn.stored is not None
    samples, origin = drawn.stored.stored, origin_of(extractor)
    of = hashlib.sha256(f"{extractor.name} {origin}".encode()).hexdigest()[:8]
    stem = f"features-{origin.family}-{of}"
    shards = found_shards(drawn.folder, stem, drawn.n, samples.each)
    for k in range(samples.count):
        if shards is None or shards.piece(k) is None:
            values = extract(extractor, drawn.read(np.array(samples.span(k)))).astype(np.float32)
            shards = shards or Shards(
                drawn.folder, stem, drawn.n, samples.each,
                (values.shape[1],), values.dtype,
            )  # fmt: skip
            shards.write(k, values)
        if progress is not None:
            progress(len(samples.span(k)))
    assert shards is not None
    return Gathered(drawn.n, shards.shape[0], shards.read)
