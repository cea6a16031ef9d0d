"""Reflow: flow matching on pairs of noise and its end under the teacher's ODE.

    x_0 = ODE_teacher(z),     L = E |V(x_t, t, t) - (d/dt x_t of the pair)|^2

Trajectories of the pairs hardly cross, so paths straighten and few Euler steps suffice. The pairs
are made once, by Diffrax, before the training.
"""

from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.reflow import PairsPlugin
from core.methods.registry import register
from core.objectives.objective import FlowMatching, Term
from plugins.flow_matching.fm import VelocityPlugin


@register
class Reflow(PairsPlugin, VelocityPlugin):
    """Rectified flow (arXiv 2209.03003): straightens a teacher's paths."""

    card = Card(
        "reflow",
        rule="diagonal",
        supervision="teacher's pairs",
        source="arXiv 2209.03003",
        cost=3,
        whole_cost=3,
        gradient="v",
        targets="none",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.143, 0.139, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.237, 0.195, "compare-digits"),
    )  # fmt: skip

    # PairsPlugin stands first: but for these its defaults hold, not those of VelocityPlugin
    full: float = 0.0
    uniform: float = by_kind(0.0, points=1.0)

    def jump(self, teacher: Teacher) -> Term:
        return FlowMatching()
