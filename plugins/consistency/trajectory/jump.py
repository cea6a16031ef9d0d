"""CTM's soft consistency: a jump, and a segment followed by a jump, end at the same clean example.

    x_est = F_ema(F(x_s, s, t), t, 0),      x_tgt = sg[F_ema(F_sg(x_u, u, t), t, 0)]

`x_u` lies a segment below `x_s`, `t <= u <= s`. Both ends are compared at the data end, through a
frozen EMA of the map: its parameters are constants, but its input carries the gradient.
"""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.path import Path, gaussian
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Players, Residuals, Term
from core.objectives.perceptual import Compared, Comparing
from core.objectives.row import Row
from plugins.consistency.trajectory.segment import Segment


class TrajectoryJump(Comparing):
    """`x_est - x_tgt`, with `u` uniform in unit time between `s` and at most `reach` below it.

    The inner jump of the target takes the current parameters, as the official code does; the paper
    and the lecture notes write the EMA there. Source: CTM (arXiv 2310.02279), eqs. 11-12; the
    lecture notes' eqs. 1.36-1.38 and 1.42.
    """

    segment: Segment
    reach: float = 0.25

    @property
    def declares(self) -> Declares:
        taught = self.segment.numbers
        return Declares((Carrier("F_target(F, t, 0)"),), (*taught, "current", "target"))

    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        there, u = target["model"], self._between(live["model"].path, row)
        x_u, end = self.segment(there, row, u), jnp.full_like(row.s, there.path.t_min)

        def whole(model: FlowMap, x: Array, time: Array) -> Array:
            return there(model(x, time, row.t, row.cond), row.t, end, row.cond)

        return (whole(live["model"], row.x_s, row.s) - whole(fixed["model"], x_u, u),)

    def compared(self, model: FlowMap, target: FlowMap, row: Row) -> Compared:
        estimate, wanted = self.ends(model, target, row)
        return Compared(estimate - wanted, wanted, jnp.ones_like(row.s))

    def ends(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """`(x_est, x_tgt)`: a gradient flows through the inner jump of the first alone."""
        path = model.path
        end = jnp.full_like(row.s, path.t_min)
        u = self._between(gaussian(path), row)
        x_u = self.segment(target, row, u)
        near = model(x_u, u, row.t, row.cond)
        wanted = target(near, row.t, end, row.cond)
        here = model(row.x_s, row.s, row.t, row.cond)
        return target(here, row.t, end, row.cond), jax.lax.stop_gradient(wanted)

    def _between(self, path: Path, row: Row) -> Float[Array, ""]:
        share = jr.uniform(row.key, (), row.s.dtype)
        gap = share * jnp.minimum(self.reach, row.unit.s - row.unit.t)
        return path.time_of_unit(row.unit.s - gap)

    @property
    def order(self) -> int | None:
        return self.segment.order

    def with_step(self, step: float) -> Term:
        return dataclasses.replace(self, reach=step)
