"""Categorical flow maps, the upper bound of the Lagrangian loss by cross-entropy.

    L = E CE(e, psi(x_t, t, t))
        + E 4 CE(sg[psi(F, t, t)], psi(x_s, s, t)) + 2 (s - t) / s |d psi/dt|^2

The gradient flows through the logits and through `d psi/dt`. **Biased**: at the exact map
`psi(x_s, s, t)` is not `psi(F, t, t)` but that plus `gamma d psi/dt`, so the cross-entropy pulls
away from it, by up to .27 in an entry of a chain with four symbols. It stands here for comparison.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.categorical import TokenMap, of_tokens
from core.flow.flow_map import FlowMap
from core.methods.card import Card
from core.methods.registry import register
from core.objectives.carriers import Carrier, Declares
from core.objectives.categorical import LOGITS, along_target, landed, pulled, rate
from core.objectives.objective import Term
from core.objectives.row import Row
from plugins.categorical.base import CategoricalPlugin


def _energy(model: TokenMap, row: Row) -> Float[Array, "length symbols"]:
    """`2 sqrt((s - t) / s) d psi/dt`, half of whose square is `2 (s - t) / s |d psi/dt|^2`."""
    zeta, d_zeta = along_target(model, row)
    gap = (row.s - row.t) / jnp.maximum(row.s, 1e-12)
    return 2 * jnp.sqrt(gap) * rate(jax.nn.softmax(zeta), d_zeta)


TWICE = Carrier("2 zeta", lambda m, row: 2 * LOGITS.of(m, row))
ENERGY = Carrier("d psi/dt", lambda m, row: _energy(of_tokens(m), row))


class EndpointBound(Term):
    """`2 (psi - psi(F, t, t))` by the logits, and `2 sqrt((s - t) / s) d psi/dt` whole.

    Source: Categorical Flow Maps (arXiv 2602.12233), ECLD, with the factors of their code for
    graphs; that for text has others.
    """

    biased = True

    @property
    def declares(self) -> Declares:
        return Declares((TWICE, ENERGY))

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "length symbols"], ...]:
        del target
        tokens, t = of_tokens(model), row.t
        zeta, d_zeta = along_target(tokens, row)
        psi = jax.nn.softmax(zeta)
        F = landed(row, psi, t)
        pull = psi - tokens.endpoint(F, t, t, row.cond)  # a number: `pulled` stops it
        gap = (row.s - t) / jnp.maximum(row.s, 1e-12)
        return pulled(2 * zeta, 2 * pull), 2 * jnp.sqrt(gap) * rate(psi, d_zeta)


@register
class CfmECLD(CategoricalPlugin):
    """Categorical flow maps (arXiv 2602.12233), ECLD: a bound, biased."""

    card = Card(
        "cfm-ecld",
        rule="Lagrangian bound",
        supervision="own diagonal",
        source="arXiv 2602.12233",
        cost=4,
        whole_cost=10,
        parameterisation="softmax",
        gradient="2 zeta, d psi/dt",
    )

    def jump(self) -> Term:
        return EndpointBound()
