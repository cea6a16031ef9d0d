"""Arrays in several files that stay on disk: rows are read when they are due."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int, Shaped

from core.data.npy import map_array
from core.data.reading import Reading, Understood, understood
from core.data.scale import evenly, from_range
from core.errors import UserError

LABELS = "labels.npy"
"""The file beside shards that has the labels of all, one behind the other."""
_LOOKED_AT = 2**24
"""Numbers, of evenly spaced examples, by which shards on disk are understood."""


@dataclass(frozen=True, eq=False)
class Shards:
    """The rows of several `.npy` files, one behind the other in the order of the names: the source
    of a lazy `Dataset`. `shape` is that of an example, into which a row is brought."""

    files: Sequence[Path]
    arrays: Sequence[Shaped[np.ndarray, "..."]]
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Shaped[np.ndarray, "*shape"]:
        """Reads one row. Raises `UserError` for one with NaN or infinity."""
        k = int(np.searchsorted(self._ends, index, side="right"))
        row = index - (int(self._ends[k - 1]) if k else 0)
        values = np.array(self.arrays[k][row]).reshape(self.shape)
        if values.dtype.kind != "f":
            return values
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise UserError(
                f"{self.files[k]}: example {row} holds NaN or infinity; fix it, or leave it out"
            )
        return values

    @cached_property
    def _ends(self) -> Int[np.ndarray, " files"]:
        return np.cumsum([len(array) for array in self.arrays])

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(array.nbytes for array in self.arrays)

    def read_all(self) -> Shaped[np.ndarray, "n ..."]:
        """All rows in memory, as they lie there."""
        return np.concatenate([np.asarray(array) for array in self.arrays])

    def some(self) -> Shaped[np.ndarray, "m ..."]:
        """Evenly spaced rows, as they lie there, of about `_LOOKED_AT` numbers."""
        row = self.arrays[0][0]
        index = evenly(len(self), max(_LOOKED_AT // max(row.size, 1), 16))
        starts = self._ends - [len(array) for array in self.arrays]
        parts = [
            np.asarray(array[index[(index >= start) & (index < end)] - start])
            for array, start, end in zip(self.arrays, starts, self._ends)
        ]
        return np.concatenate(parts)


def open_shards(folder: Path) -> tuple[Shards, Path | None]:
    """The shards of a folder, and its file of labels where there is one.

    Raises `UserError` where there are none, where one is damaged, and where two differ in type or
    shape.
    """
    found = sorted(f for f in folder.iterdir() if f.suffix == ".npy" and f.name[0] != ".")
    files = [file for file in found if file.name != LABELS]
    if not files:
        raise UserError(f"{folder}: no .npy shards in it; name a file, or a folder of them")
    arrays = [map_array(file) for file in files]
    first = arrays[0]
    for file, array in zip(files, arrays):
        if array.ndim == 0 or (array.dtype, array.shape[1:]) != (first.dtype, first.shape[1:]):
            raise UserError(
                f"{file}: rows of type {array.dtype} and shape {array.shape[1:]}, where "
                f"{files[0].name} has {first.dtype} and {first.shape[1:]}; shards are alike"
            )
    if sum(map(len, arrays)) == 0:
        raise UserError(f"{folder}: its shards hold no examples; give at least one")
    pairs = [(file, array) for file, array in zip(files, arrays) if len(array)]
    kept = Shards([f for f, _ in pairs], [a for _, a in pairs], first.shape[1:])
    return kept, folder / LABELS if (folder / LABELS) in found else None


def sharded(shards: Shards, reading: Reading, folder: Path) -> tuple[Understood, Shards]:
    """How shards that stay on disk are understood, by some of their rows; and they, for these."""
    found = understood(shards.some(), reading, folder)
    source = Shards(shards.files, shards.arrays, found.x.shape[1:])
    scale = from_range(0, 1, found.x.shape[-1]) if reading.values == "unit" else found.scale
    note = f"on disk: {shards.size / 2**30:,.2f} GiB in {len(shards.files)} shards, understood by "
    note += f"{len(found.x):,} of the examples"
    nothing = np.empty((0, *source.shape), found.x.dtype)
    return Understood(nothing, found.kind, found.levels, scale, (*found.notes, note)), source
