"""Improved MeanFlow with a velocity head: the tangent comes from a second output of the network."""

from typing import ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.objectives.carriers import HEAD, VALUE, VELOCITY, Declares
from core.objectives.objective import Term
from core.objectives.row import Row

stop = jax.lax.stop_gradient


class HeadJump(Term):
    """`(W - v, v_head - v)` with `tau = sg[v_head(x_s, s, s)]`. Source: iMF, section 4.2."""

    @property
    def declares(self) -> Declares:
        return Declares((VALUE, HEAD))

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        del target
        tau = stop(model.with_velocity(row.x_s, row.s, row.s, row.cond)[1])
        V, dV_ds, v_head = rules.eulerian_with_head(model, row.x_s, row.s, row.t, tau, row.cond)
        gap = row.t - row.s
        v = model.path.space.corrected(row.x_s, gap * V, tau, row.v)
        return V - gap * stop(dV_ds) - v, v_head - row.v


class HeadDiagonal(Term):
    """Flow matching of both outputs on the diagonal: `(V(x_s, s, s) - v, v_head - v)`.

    `by_head`: the network's own share of a guided target is the head's, not that of `V`.
    """

    diagonal: ClassVar[bool] = True
    by_head: bool = eqx.field(static=True, default=False)

    @property
    def declares(self) -> Declares:
        return Declares((VELOCITY, HEAD), ())

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        del target
        V, v_head = model.with_velocity(row.x_s, row.s, row.s, row.cond)
        v = row.target(v_head if self.by_head else V)
        return V - v, v_head - v
