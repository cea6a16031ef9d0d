"""SplitMeanFlow: the compositional rule for the average velocity, with a teacher on the diagonal.

(s - t) V(x_s, s, t) = (s - u) V(x_s, s, u) + (u - t) V(x_u, u, t),    u = (1 - l) s + l t
L = E |V(x_s, s, t) - sg[l V(x_s, s, u) + (1 - l) V(x_u, u, t)]|^2
    + E |V(x_s, s, s) - v_teacher(x_s, s)|^2
"""

from dataclasses import dataclass
from typing import ClassVar

from core.flow.teacher import Teacher
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin, needed
from core.objectives.objective import TeacherMatching, Term
from plugins.compositional.psd import SplitJump


@register
@dataclass(frozen=True)
class SplitMF(RowPlugin):
    """SplitMeanFlow (arXiv 2507.16884): interval splitting, distilled from a teacher."""

    name: ClassVar[str] = "splitmf"
    family: ClassVar[str] = "compositional"
    rule: ClassVar[str] = "compositional"
    supervision: ClassVar[str] = "teacher, own two jumps"
    source: ClassVar[str] = "arXiv 2507.16884"
    cost: ClassVar[float] = 4.5
    whole_cost: ClassVar[float | None] = 9
    seed_cost: ClassVar[float | None] = 9
    needs_teacher: ClassVar[bool] = True

    diagonal: float = 0.5
    """Share of rows with s = t, which regress the teacher."""
    uniform: float = 1.0

    def terms(self, teacher: Teacher | None) -> tuple[Term, Term]:
        return TeacherMatching(needed(teacher, self.name)), SplitJump()
