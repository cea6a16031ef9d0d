"""A density on the torus, given by the probabilities of its cells."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from core.data.checks import at_least, existing_file
from core.data.dataset import Dataset
from core.data.npy import header_of, read_arrays
from core.errors import UserError, require

HELD_OUT = 8192
"""Points to measure by, at most."""
_WHAT = "an .npz or .npy file of the probabilities of cells"


@dataclass(frozen=True)
class CellsData:
    """Angles drawn from a table of probabilities: of equal cells that fill `[-pi, pi)^d`.

    A table `(m, k)` is of two angles, `(m,)` of one: entry `[i, j]` is the probability of
    `-pi + 2 pi i / m <= phi < -pi + 2 pi (i + 1) / m` and of the same for psi; within a cell the
    density is uniform. Ramachandran tables are such. As the density is known, `apps.eval` measures
    the divergence on its cells (`kl`).
    """

    SHAPED_BY: ClassVar = ("path", "array")
    """The flags that say the shape of an example."""

    path: str = ""
    """File of the table, .npz or .npy."""
    array: str = ""
    """Name of the table within an .npz."""
    n: int = 65_536
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""

    def peek(self) -> tuple[int, ...]:
        """The shape of one example, by the header of the file. Raises `UserError`."""
        file = Path(self.path).expanduser()
        try:
            return (header_of(file, (self.array,)).ndim,)
        except Exception as error:  # NumPy and zipfile raise nearly anything; `load` says which
            raise UserError(f"{file} has no header of an array ({type(error).__name__})") from None

    def held_out(self) -> "CellsData":
        """Other points of the same density, to measure by."""
        return replace(self, seed=self.seed + 1, n=min(self.n, HELD_OUT))

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for what is no table of probabilities."""
        at_least(self.n, 1, "--data.n")
        rng = np.random.default_rng(at_least(self.seed, 0, "--data.seed"))
        p = self._table()
        place = np.unravel_index(rng.choice(p.size, self.n, p=p.ravel()), p.shape)
        share = (np.stack(place, axis=1) + rng.random((self.n, p.ndim))) / p.shape
        return Dataset(
            name="cells",
            kind="points",
            shape=(p.ndim,),
            space="torus",
            examples=(2 * np.pi * share - np.pi).astype(np.float32),
            cells=p,
        )

    def _table(self) -> Float[np.ndarray, "..."]:
        file = existing_file(self.path, _WHAT, "--data.path")
        arrays = read_arrays(file, (self.array,))
        table = arrays.get("", arrays.get(self.array))
        if table is None:
            raise UserError(f"{file}: no array named {self.array!r}; name one with --data.array")
        number = table.dtype.kind in "fiu" and table.ndim >= 1 and table.size > 0
        found = table.astype(np.float64) if number else np.zeros(1)
        with np.errstate(over="ignore"):
            total = found.sum()
        require(
            bool(np.isfinite(total) and found.min() >= 0 and total > 0),
            f"{file}: shape {table.shape} of type {table.dtype} is no table of probabilities; give "
            "numbers that are not negative, one axis an angle",
        )
        return found / total
