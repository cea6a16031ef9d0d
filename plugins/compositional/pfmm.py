"""Progressive flow map matching: two jumps of a trained map become one, and the window doubles.

    L = E |V(x_s, s, t) - sg[(V_pre(x_s, s, u) + V_pre(x_u, u, t)) / 2]|^2,      u = (s + t) / 2

for gaps `s - t` inside a window. As progressive distillation, with any times instead of a grid.
"""

from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.times.pairs import GrowingWindow, TimeSampler
from plugins.compositional.staged import StagedPlugin


@register
class PFMM(StagedPlugin):
    """Progressive flow map matching (arXiv 2406.07507): doubles the window, stage by stage."""

    card = Card(
        "pfmm",
        rule="compositional, midpoint",
        supervision="flow-map teacher",
        source="arXiv 2406.07507",
        cost=5,
        whole_cost=5,
        seed_cost=5,
        targets="last stage",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.145, 0.134, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.478, 0.454, "compare-digits"),
    )  # fmt: skip

    def jump_times(self) -> TimeSampler:
        return GrowingWindow(self.stages)
