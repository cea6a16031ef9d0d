"""What consistency models share: a jump to the data end against its neighbour's, on a grid."""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow_map import FlowMap
from core.objective import Row, Term
from core.path import Path
from core.plugin import Task
from core.row_plugin import RowPlugin, presets
from core.solve import Fixed
from core.teacher import Teacher
from core.times import GridNeighbours, TimeSampler
from core.weights import PerGap, Weight


class Neighbour(eqx.Module):
    """How the state at the neighbouring time is found."""

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """The power of the gap with which the error of the state falls."""

    @abc.abstractmethod
    def __call__(self, path: Path, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`x_u`, near `row.x_s`."""


class SameNoise(Neighbour):
    """On the line of the sampled pair: `alpha(u) x_0 + sigma(u) z`."""

    @property
    def order(self) -> int:
        return 2

    def __call__(self, path: Path, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        return path.interpolate(row.x_0, row.z, u)


class TeacherStep(Neighbour):
    """One Diffrax step of the teacher's ODE from `s` to `u`."""

    teacher: Teacher
    solver: str = "heun"

    @property
    def order(self) -> int:
        return ORDERS[self.solver] + 1

    def __call__(self, path: Path, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        del path
        x_u = self.teacher.flow(row.x_s, row.s, u, row.cond, method=Fixed(self.solver, 1))
        return jax.lax.stop_gradient(x_u)


ORDERS = {"euler": 1, "heun": 2, "midpoint": 2}
"""Orders of the solvers that make a neighbour."""


class ConsistencyJump(Term):
    """`F(x_s, s, 0) - sg[F_target(x_u, u, 0)]`; `u` is `row.t`, or `step` below `s`.

    Source: Consistency Models (arXiv 2303.01469), eqs. 7 and 10.
    """

    neighbour: Neighbour
    step: float | None = None

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        end = jnp.full_like(row.s, model.path.t_min)
        u = row.t if self.step is None else jnp.maximum(row.s - self.step, end)
        near = target(self.neighbour(model.path, row, u), u, end, row.cond)
        return model(row.x_s, row.s, end, row.cond) - jax.lax.stop_gradient(near)

    @property
    def order(self) -> int:
        return self.neighbour.order


@dataclass(frozen=True)
class GridPlugin(RowPlugin):
    """A consistency model: jumps to the data end, compared between neighbours of a grid."""

    family: ClassVar[str] = "consistency"
    rule: ClassVar[str] = "Eulerian, t = 0"
    parameterisation: ClassVar[str] = "F"
    source: ClassVar[str] = "arXiv 2303.01469"
    sampler: ClassVar[str] = "restart"
    presets = presets(
        {"uniform": 0.0, "gap_power": 1.0, "first": 10, "last": 20, "rho": 0.0},
        {"uniform": 0.0, "full": 0.0, "gap_power": 1.0, "first": 10, "last": 20, "rho": 0.0},
    )

    first: int = 10
    """Intervals of the grid at the start of training."""
    last: int = 150
    """Intervals of the grid at the end of training."""
    rho: float = 7.0
    """Exponent of the grid, EDM's; 0 spaces the nodes evenly in time."""
    gap_power: float = 0.0
    """Divide the loss of two neighbours by this power of their gap: 0 as in CT, 1 as in iCT; a
    higher one holds the data end firmly, from where everything else is learned."""
    target_decay: float = 0.0
    """Decay of an EMA that the targets use; 0 takes the current parameters."""

    def weight(self) -> Weight:
        if self.gap_power:
            return PerGap(self.gap_power, self.reduce)
        return super().weight()

    def jump_times(self) -> TimeSampler:
        return GridNeighbours(self.first, self.last, self.rho)

    def target(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}
