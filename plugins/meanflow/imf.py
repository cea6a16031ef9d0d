"""Improved MeanFlow: the identity read as flow matching of a reparameterised velocity.

    W = V(x_s, s, t) - (t - s) sg[dV/ds + grad V . tau],      L = E w |W - v|^2

with a network velocity `tau` in the tangent, so that `W` is a function of `x_s` alone. The
boundary version takes `tau = sg[V(x_s, s, s)]`, the head version an auxiliary velocity head that
is trained beside it by flow matching. The sign before `(t - s)` is minus: at the true map
`W = v_marginal` exactly. In a space that is not flat, with `u = (t - s) V`, curvature adds
`- sg[source_pull(x_s, u, tau) - tau]` to `W`.
"""

import dataclasses
from typing import Self

import jax
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow import rules
from core.flow.flow_map import FlowMap, Network
from core.flow.interpolant import Interpolant
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.guidance import GuidanceConfig
from core.objectives.objective import FlowMatching, Term
from core.objectives.row import Row
from core.times.distributions import TimeDistribution
from plugins.meanflow.head import HeadDiagonal, HeadJump

stop = jax.lax.stop_gradient


class BoundaryJump(Term):
    """`W - v` with `tau = sg[V(x_s, s, s)]`. Source: iMF, eqs. 11-13."""

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        tau = stop(model.velocity(row.x_s, row.s, row.cond)) if row.own is None else row.own
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, tau, row.cond)
        gap = row.t - row.s
        return V - gap * stop(dV_ds) - model.path.space.corrected(row.x_s, gap * V, tau, row.v)


@register
class IMF(RowPlugin):
    """Improved MeanFlow (arXiv 2512.02012): one-step generation from data, no teacher."""

    card = Card(
        "imf",
        rule="Eulerian",
        supervision="sampled pair, own velocity in the tangent",
        source="arXiv 2512.02012",
        cost=4,
        whole_cost=5,
        seed_cost=5,
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.208, 0.167, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.316, 0.206, "compare-digits"),
    )  # fmt: skip
    both_ways = True
    couples = True
    spaces = True

    diagonal: float = 0.5
    power: float = by_kind(1.0, points=0.0, small_image=0.0)
    head: bool = False
    """Take the tangent from the network's velocity head (needs a head: --net.head-depth)."""

    @classmethod
    def whole(cls) -> Self:
        return cls(diagonal=0.0)

    @classmethod
    def variants(cls) -> dict[str, Self]:
        plain, guidance = cls.preset("points"), GuidanceConfig(most=4.0)
        return {
            "boundary": plain,
            "head": dataclasses.replace(plain, head=True),
            "guided": dataclasses.replace(plain, guidance=guidance),
        }

    def jump(self, teacher: None) -> Term:
        return HeadJump() if self.head else BoundaryJump()

    def diagonal_term(self, teacher: None) -> Term:
        return HeadDiagonal(self.guidance.head) if self.head else FlowMatching()

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        flow_map = super().flow_map(net, path)
        if self.head and not flow_map.has_head:
            raise UserError(
                "imf with --plugin.head needs a network with a velocity head: "
                "--net dit --net.head-depth 1"
            )
        return flow_map

    def diagonal_distribution(self) -> TimeDistribution:
        return self.distribution()
