"""Points of Boltzmann distributions whose normaliser is known (`core.oracle.energies`)."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from core.data.checks import at_least
from core.data.dataset import Dataset
from core.errors import require
from core.oracle.energies import DoubleWell, Mueller

_CELLS = 2001
"""Cells of a grid along each axis from which points are drawn."""


@dataclass(frozen=True)
class DoubleWellData:
    """Two wells at `x_1 = +-sqrt 2`: `exp(4 x_1^2 - x_1^4 - (x_2^2 + ...) / 2)`, with a share of
    the points on the right that need not be that of the distribution, one half."""

    n: int = 20_000
    """Number of points, drawn once."""
    size: int = 2
    """Numbers of a point."""
    right: float = 0.5
    """Share of the points with x_1 > 0: 0.5 is the Boltzmann distribution, others are biased as
    simulations that rarely cross the barrier are."""
    seed: int = 0
    """Seed of the points."""

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for numbers that are none."""
        at_least(self.n, 1, "--data.n")
        at_least(self.size, 1, "--data.size")
        require(0 <= self.right <= 1, f"--data.right must be in [0, 1], got {self.right}")
        rng = np.random.default_rng(at_least(self.seed, 0, "--data.seed"))
        nodes = np.linspace(0, 4, _CELLS)
        first = _from_cells(np.exp(4 * nodes**2 - nodes**4), nodes, self.n, rng)
        sign = np.where(rng.random(self.n) < self.right, 1.0, -1.0)
        rest = rng.standard_normal((self.n, self.size - 1))
        x = np.concatenate([(sign * first)[:, None], rest], axis=1)
        return Dataset(
            name="double-well", kind="points", shape=DoubleWell(self.size).shape,
            examples=x.astype(np.float32),
        )  # fmt: skip


@dataclass(frozen=True)
class MuellerData:
    """The three wells of Müller and Brown in the plane, at 1 / 0.15 of the usual temperature unit;
    no bias."""

    n: int = 20_000
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""

    def load(self) -> Dataset:
        """Draws the points from a fine grid. Raises `UserError` for numbers that are none."""
        at_least(self.n, 1, "--data.n")
        rng = np.random.default_rng(at_least(self.seed, 0, "--data.seed"))
        x, y = np.linspace(-2.2, 1.8, 401), np.linspace(-1.0, 2.8, 401)
        grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
        density = np.exp(-np.asarray(jax.jit(jax.vmap(Mueller()))(jnp.asarray(grid))))
        cell = rng.choice(len(grid), self.n, p=density / density.sum())
        steps = np.array([x[1] - x[0], y[1] - y[0]])
        points = grid[cell] + (rng.random((self.n, 2)) - 0.5) * steps
        return Dataset(
            name="mueller", kind="points", shape=(2,), examples=points.astype(np.float32)
        )


def _from_cells(
    density: Float[np.ndarray, " m"],
    nodes: Float[np.ndarray, " m"],
    n: int,
    rng: np.random.Generator,
) -> Float[np.ndarray, " n"]:
    """Draws from a density that is linear between its nodes' cumulative sums."""
    sums = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(rng.random(n) * sums[-1], sums, nodes)
