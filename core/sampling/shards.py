"""Samples on disk, so that many of them need little memory and a stopped draw goes on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Array, Float, Float32, Int, Key, Shaped, UInt8

from core.flow.field import VelocityField
from core.sampling.drawing import Drawing
from core.sampling.generate import generate
from core.shards import Shards

EACH = 1024
"""Samples of a piece: four batches of `generate`."""
ROUNDING = "floor(127.5 x + 128)"
"""How network values become bytes, after they were clipped to [-1, 1]: half up, as in EDM, DiT, SiT
and iMF."""


def to_bytes(x: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Images in [-1, 1] as bytes, `floor(127.5 x + 128)` after clipping, at most 255."""
    values = np.clip(np.asarray(x, np.float32), -1, 1)
    return np.minimum(np.floor(127.5 * values + 128), 255).astype(np.uint8)


def from_bytes(x: UInt8[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Bytes as network values, `b / 127.5 - 1`; `to_bytes` of them are the same bytes."""
    return np.asarray(x, np.float32) / np.float32(127.5) - 1


@dataclass(frozen=True)
class StoredSamples:
    """Samples in a folder, and how many evaluations of the network each took.

    **Fields:** `stored`, the pieces of samples, bytes or float32; `counts`, those of evaluations.
    """

    stored: Shards
    counts: Shards

    def __len__(self) -> int:
        return len(self.stored)

    def values(self, index: Int[np.ndarray, " some"]) -> Float32[np.ndarray, " some *shape"]:
        """Some samples as network values."""
        found = self.stored.read(index)
        return from_bytes(found) if found.dtype == np.uint8 else found

    @property
    def nfe(self) -> int | float:
        """Network evaluations a sample: their number, or its mean where samples differ."""
        found = np.concatenate(list(self.counts))
        return int(found[0]) if np.all(found == found[0]) else round(float(found.mean()), 2)

    def remove(self) -> None:
        """Deletes the samples."""
        self.counts.remove()
        self.stored.remove()


def stored_samples(
    folder: Path, n: int, shape: tuple[int, ...], as_bytes: bool, each: int = EACH
) -> StoredSamples:
    """The pieces of `n` samples in a folder, whether they are there or not."""
    dtype = np.dtype(np.uint8 if as_bytes else np.float32)
    return StoredSamples(
        Shards(folder, "samples", n, each, shape, dtype),
        Shards(folder, "evaluations", n, each, (), np.dtype(np.int32)),
    )


def draw_to(
    samples: StoredSamples,
    field: VelocityField,
    drawing: Drawing,
    labels: Int[np.ndarray, " n"] | int,
    *,
    key: Key[Array, ""],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Draws the pieces that are missing, each as `generate` draws these samples at once.

    The noise of a sample depends on the key and its number alone, so it makes no difference when
    and how often the draw was stopped. `progress` is called with the number of samples that are
    there, or were drawn. Raises `NotFinite`, and `OSError` where the disk is full.
    """
    stored, counts = samples.stored, samples.counts
    for k in range(stored.count):
        span = stored.span(k)
        if stored.piece(k) is not None and counts.piece(k) is not None:
            if progress is not None:
                progress(len(span))
            continue
        asked = len(span) if isinstance(labels, int) else labels[span.start : span.stop]
        found = generate(
            field, drawing, stored.shape, asked, key=key, first=span.start, progress=progress
        )
        counts.write(k, found.counts.astype(np.int32))  # first: who sees the samples has both
        stored.write(k, _as_stored(found.x, stored.dtype))


def _as_stored(
    x: Float[np.ndarray, " n *shape"], dtype: np.dtype
) -> Shaped[np.ndarray, " n *shape"]:
    return to_bytes(x) if dtype == np.uint8 else np.asarray(x, dtype)
