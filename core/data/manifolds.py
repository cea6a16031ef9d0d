"""Points on a sphere, on a torus and in the rotation group, drawn once."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from jaxtyping import Float

from core.data.checks import at_least
from core.data.dataset import Dataset

BLOB_KAPPA = 10.0
"""Concentration of each of the four blobs."""
SIDE = 4
"""Squares along an edge of the board on the torus."""
CELLS = 24
"""Cells along an edge in which the density of the board is given."""
ROLL_STD = 0.2
"""Standard deviation of the noise of the Swiss roll, whose height is 10."""

HELD_OUT = 4096
"""Points to measure by, at most."""


def blob_centres() -> Float[np.ndarray, "4 3"]:
    """Centres of the four equally likely blobs: the corners of a regular tetrahedron."""
    corners = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    return np.array(corners) / np.sqrt(3)


def fisher(
    rng: np.random.Generator, centres: Float[np.ndarray, "n 3"], kappa: float
) -> Float[np.ndarray, "n 3"]:
    """One draw for each centre of von Mises and Fisher's density `exp(kappa <c, x>)`.

    `w = <c, x>` has the distribution function `(e^(kappa w) - e^-kappa) / (e^kappa - e^-kappa)`,
    inverted in closed form; the direction across is uniform.
    """
    u = rng.random(len(centres))
    w = np.clip(1 + np.log(u + (1 - u) * np.exp(-2 * kappa)) / kappa, -1, 1)[:, None]
    across = rng.standard_normal(centres.shape)
    across -= np.sum(across * centres, axis=1, keepdims=True) * centres
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return w * centres + np.sqrt(1 - w**2) * across


@dataclass(frozen=True)
class SphereBlobsData:
    """Four equally likely blobs on the sphere, at the corners of a tetrahedron.

    Each has von Mises and Fisher's density `exp(kappa <centre, x>)` with `kappa = 10`; points are
    unit vectors `(3,)`. Label: the number of the blob, if asked for.
    """

    n: int = 65_536
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""
    labelled: bool = False
    """Give each point the number of its blob (0 to 3) as its label."""

    def held_out(self) -> Self:
        """Other points, to measure by."""
        return replace(self, seed=self.seed + 1, n=min(self.n, HELD_OUT))

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for `n < 1` or a negative seed."""
        rng = _generator(self.n, self.seed)
        which = rng.integers(0, 4, self.n).astype(np.int32)
        return Dataset(
            name="sphere-blobs",
            kind="points",
            shape=(3,),
            space="sphere",
            examples=fisher(rng, blob_centres()[which], BLOB_KAPPA).astype(np.float32),
            labels=which if self.labelled else None,
            num_classes=4 if self.labelled else 0,
            class_names=("0", "1", "2", "3") if self.labelled else (),
        )


@dataclass(frozen=True)
class TorusCheckerboardData:
    """The dark squares of a 4 x 4 board on the torus, whose edges are glued.

    Two angles in `[-pi, pi)`; uniform where `floor(2 phi / pi) + floor(2 psi / pi)` is even.
    """

    n: int = 65_536
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""

    def held_out(self) -> Self:
        """Other points, to measure by."""
        return replace(self, seed=self.seed + 1, n=min(self.n, HELD_OUT))

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for `n < 1` or a negative seed."""
        rng = _generator(self.n, self.seed)
        row = rng.integers(0, SIDE, self.n)
        column = 2 * rng.integers(0, SIDE // 2, self.n) + row % 2
        inside = np.clip(rng.random((self.n, 2)), 2.0**-16, 1 - 2.0**-16)
        x = (np.stack([column, row], axis=1) + inside) * (2 * np.pi / SIDE) - np.pi
        place = np.arange(CELLS) * SIDE // CELLS
        dark = (place[:, None] + place) % 2 == 0
        return Dataset(
            name="torus-checkerboard",
            kind="points",
            shape=(2,),
            space="torus",
            examples=x.astype(np.float32),
            cells=dark / dark.sum(),
        )


@dataclass(frozen=True)
class SwissRollData:
    """A spiral of rotations: those that take `(0, 1, 0)` to points of a Swiss roll.

    `(t cos t + e, 10, t sin t + e')`, `t = 3 pi (1 - u)`, `u` uniform, `e, e'` Gaussian of
    deviation 0.2; as unit quaternions `(w, x, y, z)` with `w >= 0`. Source: Riemannian consistency
    models (arXiv 2510.00983), the synthetic set.
    """

    n: int = 10_000
    """Number of rotations, drawn once."""
    seed: int = 0
    """Seed of the rotations."""

    def held_out(self) -> Self:
        """Other rotations, to measure by."""
        return replace(self, seed=self.seed + 1, n=min(self.n, HELD_OUT))

    def load(self) -> Dataset:
        """Draws the rotations. Raises `UserError` for `n < 1` or a negative seed."""
        rng = _generator(self.n, self.seed)
        t = 3 * np.pi * (1 - rng.random(self.n))
        noise = ROLL_STD * rng.standard_normal((2, self.n))
        to = np.stack([t * np.cos(t) + noise[0], np.full(self.n, 10.0), t * np.sin(t) + noise[1]])
        to /= np.linalg.norm(to, axis=0)
        # The shortest rotation from e to d: (1 + <e, d>, e x d), normalised.
        q = np.stack([1 + to[1], to[2], np.zeros(self.n), -to[0]], axis=1)
        q /= np.linalg.norm(q, axis=1, keepdims=True)
        return Dataset(
            name="so3-swiss-roll",
            kind="points",
            shape=(4,),
            space="so3",
            examples=q.astype(np.float32),
        )


def _generator(n: int, seed: int) -> np.random.Generator:
    at_least(n, 1, "--data.n")
    return np.random.default_rng(at_least(seed, 0, "--data.seed"))
