"""Discrete flow maps by the Eulerian rule, written for the logits.

    psi(x_s, s, t) = softmax(zeta(x_s, s, s) - log[t + s (s - t) delta]),
    delta = D_s zeta - <psi, D_s zeta>,     D_s along ((x_s - psi_ss) / s, 1),
    L = E CE(e, psi(x_t, t, t)) + E w CE(sg[right side], psi(x_s, s, t))

One Jacobian-vector product. The bracket is `t psi_ss / psi` at the exact map; elsewhere it may be
negative, and is clamped at 1e-6: the share of clamped entries is logged. Towards `t = 0` it
vanishes, and what is left of it is rounding, so that below 1e-3 the linear form of the same rule
stands there, `core.objectives.categorical.eulerian`, whose end is `psi_ss`. The paper's adaptive
weight (--plugin.power 0.5), for maps whose diagonal is trained, is off by default. The Lagrangian
rule has no sound form of this kind: see `dfm-lsd`.
"""

import jax
import jax.numpy as jnp

from core.flow.categorical import TokenMap, towards
from core.flow.teacher import frozen
from core.methods.card import Card
from core.methods.registry import register
from core.objectives.categorical import (
    TokenTerm,
    Zeta,
    against,
    along_source,
    centred,
    eulerian,
)
from core.objectives.objective import Metrics, Term
from core.objectives.row import Row
from plugins.categorical.base import CategoricalPlugin

SMALLEST = 1e-6
NEAR = 1e-3
"""Target times below which the rule is taken in its linear form."""


class EulerianEndpoint(TokenTerm):
    """`psi - softmax(zeta_ss - log[t + s (s - t) delta])`.

    Source: Discrete Flow Maps (arXiv 2604.09784), ESD.
    """

    def pull(self, model: TokenMap, row: Row) -> tuple[Zeta, Zeta, Metrics]:
        s, t = row.s, row.t
        here = frozen(model).logits(row.x_s, s, s, row.cond)
        end = jax.nn.softmax(here)
        zeta, d_zeta = along_source(model, row, towards(row.x_s, s, end))
        psi = jax.nn.softmax(zeta)
        bracket = t + s * (s - t) * centred(psi, d_zeta)
        q = jax.nn.softmax(here - jnp.log(jnp.maximum(bracket, SMALLEST)))
        q = jnp.where(t < NEAR, psi - eulerian(row, psi, end, d_zeta), q)
        clamped = jnp.mean((bracket < SMALLEST) & (t >= NEAR), dtype=s.dtype)
        _, pull, seen = against(zeta, q)
        return zeta, pull, {**seen, "clamped": clamped}


@register
class DfmESD(CategoricalPlugin):
    """Discrete flow maps (arXiv 2604.09784), Eulerian: the target is a softmax."""

    card = Card(
        "dfm-esd",
        rule="Eulerian",
        supervision="own diagonal",
        source="arXiv 2604.09784",
        cost=3.5,
        whole_cost=8,
        parameterisation="softmax",
        gradient="zeta",
    )

    def jump(self) -> Term:
        return EulerianEndpoint()
