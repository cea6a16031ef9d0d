"""Progressive distillation: one step of the student equals two of its teacher, and halve again.

    L = E |V(x_s, s, s - 2h) - sg[(V_pre(x_s, s, s - h) + V_pre(x', s - h, s - 2h)) / 2]|^2

At the end of each stage the student becomes `V_pre` and the jump doubles. Half of the rows train
the newest jump, the others all that came before, so that one network serves every number of steps.
"""

from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.times.pairs import DyadicJumps, TimeSampler
from plugins.compositional.staged import StagedPlugin


@register
class PD(StagedPlugin):
    """Progressive distillation (arXiv 2202.00512): halves the number of steps, stage by stage."""

    card = Card(
        "pd",
        rule="compositional, midpoint",
        supervision="teacher, then the last stage",
        source="arXiv 2202.00512",
        cost=5,
        whole_cost=5,
        targets="last stage",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.146, 0.138, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.357, 0.333, "compare-digits"),
    )  # fmt: skip

    def jump_times(self) -> TimeSampler:
        return DyadicJumps(self.stages, climb=True)
