"""The residual of a ladder of jumps: one jump against its two halves."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.pairs import stage_of


class TwoHalves(Term):
    """`V(x_s, s, t) - sg[two halves by the target]`.

    The halves are Euler steps along the target's diagonal where the jump is at most `smallest`, and
    in the first of `stages` of the training (0: there are none). Source: shortcut models (arXiv
    2410.12557), eq. 4; progressive distillation (arXiv 2202.00512), algorithm 2, for velocities.
    """

    smallest: float = 0.0
    stages: int = 0

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        half, euler = jnp.full_like(row.s, 0.5), self._euler(model, row)
        two = rules.compositional(target, row.x_s, row.s, row.t, half, row.cond, euler=euler)
        V = model.average_velocity(row.x_s, row.s, row.t, row.cond)
        return V - jax.lax.stop_gradient(two)

    def _euler(self, model: FlowMap, row: Row) -> Bool[Array, ""]:
        gap = model.path.unit_time(row.s) - model.path.unit_time(row.t)
        small = gap < 1.5 * self.smallest
        return small | (stage_of(row.progress, self.stages) == 0) if self.stages else small
