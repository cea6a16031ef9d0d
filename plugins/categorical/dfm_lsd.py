"""Discrete flow maps by the Lagrangian rule, with a target of signed probabilities.

    q = psi(F, t, t) + gamma d psi/dt,     gamma = t (s - t) / s,     F = F(x_s, s, t),
    L = E CE(e, psi(x_t, t, t)) + E w CE(sg[q], psi(x_s, s, t))

`q` sums to 1 but may have entries below 0 away from the exact map; cross-entropy is linear in it.
The paper's form for logits divides by `psi` and is lost to rounding wherever that is peaked, so
the linear one stands here.
"""

import jax
import jax.numpy as jnp

from core.flow.categorical import TokenMap
from core.flow.teacher import frozen
from core.methods.card import Card
from core.methods.registry import register
from core.objectives.categorical import TokenTerm, Zeta, against, along_target, landed, rate
from core.objectives.objective import Metrics, Term
from core.objectives.row import Row
from plugins.categorical.base import CategoricalPlugin


class LagrangianEndpoint(TokenTerm):
    """`psi - [psi(F, t, t) + gamma d psi/dt]`. Source: Discrete Flow Maps (arXiv 2604.09784), LSD,
    before its logarithm."""

    def pull(self, model: TokenMap, row: Row) -> tuple[Zeta, Zeta, Metrics]:
        still, s, t = frozen(model), row.s, row.t
        zeta, d_zeta = along_target(model, row)
        psi = jax.lax.stop_gradient(jax.nn.softmax(zeta))
        end = still.endpoint(landed(row, psi, t), t, t, row.cond)
        gamma = t * (s - t) / jnp.maximum(s, 1e-12)
        return against(zeta, end + gamma * rate(psi, d_zeta))


@register
class DfmLSD(CategoricalPlugin):
    """Discrete flow maps, Lagrangian, after arXiv 2604.09784: a linear target."""

    card = Card(
        "dfm-lsd",
        rule="Lagrangian",
        supervision="own diagonal",
        source="after arXiv 2604.09784",
        cost=3.5,
        whole_cost=8,
        parameterisation="softmax",
        gradient="zeta",
    )

    def jump(self) -> Term:
        return LagrangianEndpoint()
