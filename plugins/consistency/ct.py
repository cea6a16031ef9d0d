"""Consistency training: neighbours on one noisy line map to the same clean end.

    L = E |F(x_s, s, 0) - sg[F_target(x_u, u, 0)]|^2,    x_s, x_u from one pair (x_0, z)

`(s, u)` are neighbours of a grid that is refined during training. The velocity is the sampled
pair's, so the fixed point has a bias that vanishes with the step.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.flow_map import FlowMap, Network
from core.objective import FlowMatching, Row, Term
from core.path import Path
from core.plugin import Method, Task, register
from core.row_plugin import RowPlugin, presets
from core.teacher import Teacher
from core.times import GridNeighbours, TimeSampler


class ConsistencyJump(Term):
    """`F(x_s, s, 0) - sg[F_target(x_u, u, 0)]`; `u` is `row.t`, or `step` below `s`.

    Source: Consistency Models (arXiv 2303.01469), eq. 10.
    """

    step: float | None = None

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        end = jnp.full_like(row.s, model.path.t_min)
        u = row.t if self.step is None else jnp.maximum(row.s - self.step, end)
        near = target(self.neighbour(model, row, u), u, end, row.cond)
        return model(row.x_s, row.s, end, row.cond) - jax.lax.stop_gradient(near)

    def neighbour(self, model: FlowMap, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`x_u`: here on the line of the sampled pair."""
        return model.path.interpolate(row.x_0, row.z, u)

    @property
    def order(self) -> int:
        return 2

    def with_step(self, step: float) -> Term:
        return dataclasses.replace(self, step=step)


@register
@dataclass(frozen=True)
class CT(RowPlugin):
    """Consistency training (arXiv 2303.01469): jumps to the data end, no teacher."""

    name: ClassVar[str] = "ct"
    family: ClassVar[str] = "consistency"
    rule: ClassVar[str] = "Eulerian, t = 0"
    supervision: ClassVar[str] = "sampled pair, vanishing bias"
    parameterisation: ClassVar[str] = "F"
    source: ClassVar[str] = "arXiv 2303.01469"
    cost: ClassVar[float] = 4
    whole_cost: ClassVar[float | None] = 4
    seed_cost: ClassVar[float | None] = 4
    presets = presets({"uniform": 0.0}, {"uniform": 0.0, "full": 0.0})

    first: int = 10
    """Intervals of the grid at the start of training."""
    last: int = 150
    """Intervals of the grid at the end of training."""
    target_decay: float = 0.0
    """Decay of an EMA that the targets use; 0, the current parameters, is the right limit."""

    def terms(self, teacher: Teacher | None) -> tuple[Term, Term]:
        del teacher
        return FlowMatching(), ConsistencyJump()

    def jump_times(self) -> TimeSampler:
        return GridNeighbours(self.first, self.last)

    def method(
        self, net: Network, path: Path, teacher: Teacher | None, task: Task, *, key: Key[Array, ""]
    ) -> Method:
        method = super().method(net, path, teacher, task, key=key)
        return dataclasses.replace(
            method, sampler="restart", target_decay=self.target_decay or None
        )
