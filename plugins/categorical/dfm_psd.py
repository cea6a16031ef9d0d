"""Discrete flow maps by the compositional rule: one jump against the two that divide it.

    q = a psi(x_s, s, u) + (1 - a) psi(F(x_s, s, u), u, t),     a = t (s - u) / (u (s - t)),
    L = E CE(e, psi(x_t, t, t)) + E w CE(sg[q], psi(x_s, s, t))

`q` is a probability vector. The rule alone has constant solutions, so the diagonal never goes. The
paper projects the gradient of the jumps off that of the diagonal where they disagree; here both
are one loss with one backward pass, and rows of the diagonal are in every batch. Nor is the paper's
adaptive weight on by default (--plugin.power 0.5): it gives every jump a pull of the same size,
which in a training from scratch holds the diagonal back.
"""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from core.flow.categorical import TokenMap
from core.flow.teacher import frozen
from core.methods.card import Card
from core.methods.registry import register
from core.objectives.categorical import TokenTerm, Zeta, against, landed
from core.objectives.objective import Metrics, Term
from core.objectives.row import Row
from core.times.warp import Warp, between
from plugins.categorical.base import CategoricalPlugin


class SplitEndpoint(TokenTerm):
    """`psi - q`, divided in the middle or anywhere, in the warped time where there is one.

    Source: Discrete Flow Maps (arXiv 2604.09784), PSD.
    """

    midpoint: bool = eqx.field(static=True, default=False)
    warp: Warp | None = None

    def pull(self, model: TokenMap, row: Row) -> tuple[Zeta, Zeta, Metrics]:
        uniform = jr.uniform(row.key, (), row.s.dtype)
        g = jnp.full_like(row.s, 0.5) if self.midpoint else uniform
        still, u = frozen(model), between(row.s, row.t, g, self.warp, row.x_s.shape[-1])
        first = still.endpoint(row.x_s, row.s, u, row.cond)
        second = still.endpoint(landed(row, first, u), u, row.t, row.cond)
        share = first_share(row.s, u, row.t)
        zeta = model.logits(row.x_s, row.s, row.t, row.cond)
        return against(zeta, share * first + (1 - share) * second)


def first_share(s: Float[Array, ""], u: Float[Array, ""], t: Float[Array, ""]) -> Float[Array, ""]:
    """`a = t (s - u) / (u (s - t))`, the share of the first jump's endpoint; 0 at `s = t`."""
    return t * (s - u) / jnp.maximum(u * (s - t), 1e-12)


@register
class DfmPSD(CategoricalPlugin):
    """Discrete flow maps (arXiv 2604.09784), compositional: no derivative."""

    card = Card(
        "dfm-psd",
        rule="compositional",
        supervision="own two jumps",
        source="arXiv 2604.09784",
        cost=3.5,
        whole_cost=8,
        parameterisation="softmax",
        gradient="zeta",
    )

    midpoint: bool = False
    """Divide every jump in the middle instead of anywhere."""

    def jump(self) -> Term:
        return SplitEndpoint(self.midpoint, self.warp)
