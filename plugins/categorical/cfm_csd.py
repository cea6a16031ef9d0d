"""Categorical flow maps, scaled Lagrangian squares.

    L = E CE(e, psi(x_t, t, t)) + E |t dF/dt - sg[F - psi(F, t, t)]|^2,     F = F(x_s, s, t)

The gradient flows through `dF/dt`, `F` is a number. Squares: the sum over symbols, the mean over
positions. At `t = 0` nothing has a gradient, so that --plugin.full is refused. The backward
pass goes through the derivative, so a jump row costs twice that of others.
"""

import jax
from jaxtyping import Array, Float

from core.errors import require
from core.flow import rules
from core.flow.categorical import of_tokens
from core.flow.flow_map import FlowMap
from core.flow.teacher import frozen
from core.methods.card import Card
from core.methods.registry import register
from core.objectives.carriers import END_RATE, Carrier, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.objectives.weights import Adaptive, Weight
from plugins.categorical.base import CategoricalPlugin

SCALED_RATE = Carrier("t dF/dt", lambda model, row: row.t * END_RATE.of(model, row))


class ScaledRate(Term):
    """`t dF/dt - sg[F - psi(F, t, t)]`. Source: Categorical Flow Maps (arXiv 2602.12233), CSD, in
    its code."""

    @property
    def declares(self) -> Declares:
        return Declares((SCALED_RATE,))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "length symbols"]:
        del target
        gap, t = row.t - row.s, row.t
        V, dV_dt = rules.lagrangian(model, row.x_s, row.s, t, row.cond)
        F = jax.lax.stop_gradient(row.x_s + gap * V)
        end = frozen(of_tokens(model)).endpoint(F, t, t, row.cond)
        return t * (V + gap * dV_dt) - (F - end)


@register
class CfmCSD(CategoricalPlugin):
    """Categorical flow maps (arXiv 2602.12233), CSD: squares through the derivative."""

    card = Card(
        "cfm-csd",
        rule="Lagrangian",
        supervision="own diagonal",
        source="arXiv 2602.12233",
        cost=4,
        whole_cost=10,
        parameterisation="softmax",
        gradient="t dF/dt",
    )

    def __post_init__(self):
        super().__post_init__()
        require(
            self.full == 0,
            "cfm-csd learns nothing from jumps to t = 0: leave out --plugin.full",
        )

    def jump(self) -> Term:
        return ScaledRate()

    def weight(self) -> Weight:
        return Adaptive(self.power, self.constant, "positions")
