"""SplitMeanFlow: the compositional rule for the average velocity, with a teacher on the diagonal.

(s - t) V(x_s, s, t) = (s - u) V(x_s, s, u) + (u - t) V(x_u, u, t),    u = (1 - l) s + l t
L = E |V(x_s, s, t) - sg[l V(x_s, s, u) + (1 - l) V(x_u, u, t)]|^2
    + E |V(x_s, s, s) - v_teacher(x_s, s)|^2
"""

from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Term
from plugins.compositional.psd import SplitJump


@register
class SplitMF(RowPlugin):
    """SplitMeanFlow (arXiv 2507.16884): interval splitting, distilled from a teacher."""

    card = Card(
        "splitmf",
        rule="compositional",
        supervision="teacher, own two jumps",
        source="arXiv 2507.16884",
        cost=4.5,
        whole_cost=9,
        seed_cost=9,
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.154, 0.141, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.267, 0.195, "compare-digits"),
    )  # fmt: skip
    both_ways = True
    needs_teacher = True
    spaces = True

    diagonal: float = 0.5
    """Share of rows with s = t, which regress the teacher."""
    uniform: float = by_kind(1.0, small_image=0.3)

    def jump(self, teacher: Teacher) -> Term:
        return SplitJump()
