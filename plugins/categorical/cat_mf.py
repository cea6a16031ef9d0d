"""MeanFlow for tokens: the Eulerian rule with the sampled pair's velocity, and cross-entropy.

    D_s psi = -kappa (psi - psi_ss),     kappa = t / (s (s - t)),
    q = e - D_s psi / kappa,     D_s along ((x_s - e) / s, 1),
    L = E CE(e, psi(x_t, t, t)) + E w CE(sg[q], psi(x_s, s, t)),     w = t / (t + s (s - t))

`E[q | x_s] = psi` at the exact map, since cross-entropy is linear in `q`, whose entries may have
any sign and size. The weight takes the factor `1 / kappa` back out where it is large. No second
evaluation and no diagonal is needed in the jumps. An adaptive weight would move the fixed point:
`q` is sampled.
"""

import jax

from core.flow.categorical import TokenMap
from core.methods.card import Card
from core.methods.registry import register
from core.objectives.categorical import TokenTerm, Zeta, along_source, eulerian
from core.objectives.objective import Metrics, Term
from core.objectives.row import Row
from plugins.categorical.base import CategoricalPlugin


class MeanFlowEndpoint(TokenTerm):
    """`w (psi - e + D_s psi / kappa)`, its weight within: finite up to `t = 0`."""

    def pull(self, model: TokenMap, row: Row) -> tuple[Zeta, Zeta, Metrics]:
        zeta, d_zeta = along_source(model, row, row.v)
        return zeta, eulerian(row, jax.nn.softmax(zeta), row.x_0, d_zeta), {}


@register
class CatMF(CategoricalPlugin):
    """MeanFlow for tokens: cross-entropy of a signed target, no second evaluation."""

    card = Card(
        "cat-mf",
        rule="Eulerian",
        supervision="sampled pair",
        source="MeanFlow (arXiv 2505.13447) with cross-entropy",
        cost=3.25,
        whole_cost=7,
        parameterisation="softmax",
        gradient="zeta",
    )

    def jump(self) -> Term:
        return MeanFlowEndpoint()
