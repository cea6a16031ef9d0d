"""A long array in pieces on disk, each whole or not there, so that work on it goes on where it was
stopped."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from core.files import inside, whole


@dataclass(frozen=True)
class Shards:
    """Files `<stem>-00003-of-00050.npy` of a folder, which one after another are one array.

    **Fields:** `rows` of all, `each` of a piece (of the last one fewer), and the `shape` and
    `dtype` of a row. Pieces are read by memory map.
    """

    folder: Path
    stem: str
    rows: int
    each: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def count(self) -> int:
        """The number of pieces."""
        return -(-self.rows // self.each)

    def __len__(self) -> int:
        return self.rows

    def path(self, k: int) -> Path:
        """The file of piece `k`. Raises `UserError` where a link leads out of the folder."""
        return inside(self.folder, f"{self.stem}-{k:05d}-of-{self.count:05d}.npy")

    def span(self, k: int) -> range:
        """The rows of piece `k`."""
        return range(k * self.each, min((k + 1) * self.each, self.rows))

    def piece(self, k: int) -> Shaped[np.ndarray, " piece *shape"] | None:
        """The rows of piece `k`, mapped; None where there is no such file, or it is no such
        piece."""
        try:
            found = np.load(self.path(k), mmap_mode="r", allow_pickle=False)
        except (FileNotFoundError, ValueError, EOFError):
            return None
        fits = found.shape == (len(self.span(k)), *self.shape) and found.dtype == self.dtype
        return found if fits else None

    def missing(self) -> list[int]:
        """The pieces that are still to be written."""
        return [k for k in range(self.count) if self.piece(k) is None]

    def write(self, k: int, values: Shaped[np.ndarray, " piece *shape"]) -> None:
        """Writes piece `k` as a whole. Raises `OSError`."""
        values = np.asarray(values)
        if values.shape != (len(self.span(k)), *self.shape) or values.dtype != self.dtype:
            raise ValueError(f"{values.dtype} {values.shape} is no piece {k} of {self}")
        with whole(self.path(k)) as stream:
            np.lib.format.write_array(stream, values, allow_pickle=False)

    def read(self, index: Int[np.ndarray, " some"]) -> Shaped[np.ndarray, " some *shape"]:
        """Some rows of pieces that are all there."""
        index = np.asarray(index)
        out = np.empty((len(index), *self.shape), self.dtype)
        for k in np.unique(index // self.each):
            here = index // self.each == k
            found = self.piece(int(k))
            if found is None:
                raise FileNotFoundError(f"{self.path(int(k))} is gone")
            out[here] = found[index[here] - self.span(int(k)).start]
        return out

    def __iter__(self) -> Iterator[Shaped[np.ndarray, " piece *shape"]]:
        """The pieces in order, each in memory only as long as it is held."""
        for k in range(self.count):
            yield self.read(np.array(self.span(k)))

    def remove(self) -> None:
        """Deletes the pieces, and the folder where nothing else lies in it."""
        for k in range(self.count):
            self.path(k).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()


def found_shards(folder: Path, stem: str, rows: int, each: int) -> Shards | None:
    """The array that the first piece in a folder tells of; None where there is none."""
    count = -(-rows // each)
    try:
        first = np.load(
            inside(folder, f"{stem}-{0:05d}-of-{count:05d}.npy"), mmap_mode="r", allow_pickle=False
        )
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return Shards(folder, stem, rows, each, first.shape[1:], first.dtype)
