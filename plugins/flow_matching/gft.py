"""Guidance-free training: one velocity network that is guided at every scale.

    L = E |beta V(x_t, t, t; c, beta) + (1 - beta) sg[V(x_t, t, t; null)] - v|^2,    beta = 1 / w

`beta` is uniform and an input of the network; a row without a label has `beta = 1`. Written as flow
matching of `w v + (1 - w) V(null)` with the weight `1 / w^2`, which is the same square.
"""

from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.guidance import GuidanceConfig
from core.objectives.objective import FlowMatching, Term
from plugins.flow_matching.fm import VelocityPlugin


@register
class GFT(VelocityPlugin):
    """Guidance-free training (arXiv 2501.15420): a guided velocity for one evaluation."""

    card = Card(
        "gft",
        rule="diagonal",
        supervision="sampled pair, own unconditional velocity",
        source="arXiv 2501.15420",
        cost=3.9,
        whole_cost=3.9,
        gradient="v",
    )
    recipes = (
        Recipe("small-image", "digits", 2300, 4.55, 0.757, "recipes-digits"),
    )  # fmt: skip

    guidance: GuidanceConfig = GuidanceConfig(most=20.0, tilt=2.0, own=0.0, even=True)

    def jump(self, teacher: None) -> Term:
        return FlowMatching()
