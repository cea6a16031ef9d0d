"""The residual of a ladder of jumps: one jump against its two halves."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.errors import require
from core.flow import rules
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.objectives.carriers import VALUE, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.pairs import stage_of


class TwoHalves(Term):
    """`V(x_s, s, t) - sg[two halves by the target]`.

    The halves are Euler steps along the target's diagonal where the jump is at most `smallest`, and
    in the first of `stages` of the training (0: there are none). There the velocity is guided by
    `scale`, away from that of the label `null`; `clip` keeps the middle and the target in
    `[-clip, clip]` (0: as they are). Source: shortcut models (arXiv 2410.12557), eq. 4, and their
    code for `scale` and `clip`; progressive distillation (arXiv 2202.00512), algorithm 2, for
    velocities.
    """

    smallest: float = 0.0
    stages: int = 0
    scale: float = 1.0
    null: int = eqx.field(static=True, default=0)
    clip: float = 0.0

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("target",))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        half, euler = jnp.full_like(row.s, 0.5), self._euler(model, row)
        if self.scale == 1 and not self.clip:
            two = rules.compositional(target, row.x_s, row.s, row.t, half, row.cond, euler=euler)
        else:
            two = self._guided(target, row, euler)
        V = model.average_velocity(row.x_s, row.s, row.t, row.cond)
        return V - jax.lax.stop_gradient(two)

    def _guided(self, target: FlowMap, row: Row, euler: Bool[Array, ""]) -> Float[Array, "*shape"]:
        """Two halves, guided where they are Euler steps, with the middle and their mean clipped."""
        null = Condition(label=jnp.asarray(self.null))
        u = (row.s + row.t) / 2

        def half(x: Array, s: Array, t: Array) -> Array:
            t = jnp.where(euler, s, t)
            V = target.average_velocity(x, s, t, row.cond)
            if self.scale == 1:
                return V
            V_null = target.average_velocity(x, s, t, null)
            return jnp.where(euler, V_null + self.scale * (V - V_null), V)

        first = half(row.x_s, row.s, u)
        space = target.path.space
        require(
            space.flat or not self.clip,
            f"--plugin.clip bounds coordinates, which says nothing on {space.name}; leave it at 0",
        )
        middle = self._clipped(space.exp(row.x_s, (u - row.s) * first))
        share = jnp.full_like(row.s, 0.5)
        second = half(middle, u, row.t)
        return self._clipped(space.mean(row.x_s, row.t - row.s, share, first, second))

    def _clipped(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.clip(x, -self.clip, self.clip) if self.clip else x

    def _euler(self, model: FlowMap, row: Row) -> Bool[Array, ""]:
        gap = model.path.unit_time(row.s) - model.path.unit_time(row.t)
        small = gap < 1.5 * self.smallest
        return small | (stage_of(row.progress, self.stages) == 0) if self.stages else small
