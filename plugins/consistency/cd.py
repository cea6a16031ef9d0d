"""Consistency distillation: neighbours on one trajectory of the teacher map to the same clean end.

    L = E |F(x_s, s, 0) - sg[F_target(x_u, u, 0)]|^2,    x_u = one solver step of the teacher

`(s, u)` are neighbours of a fixed grid.
"""

from typing import Literal

from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.registry import register
from core.methods.row_plugin import presets
from core.objectives.objective import Term
from plugins.consistency.base import GridPlugin
from plugins.consistency.jump import ConsistencyJump, TeacherStep


@register
class CD(GridPlugin):
    """Consistency distillation (arXiv 2303.01469): jumps to the data end, from a teacher."""

    card = Card(
        "cd",
        rule="Eulerian, t = 0",
        supervision="teacher",
        source="arXiv 2303.01469",
        cost=5,
        whole_cost=5,
        seed_cost=5,
        parameterisation="F",
    )
    needs_teacher = True
    guidable = True
    presets = presets(
        {"uniform": 0.0, "gap_power": 1.0, "solver": "heun", "first": 20, "last": 20, "rho": 0.0},
        {"uniform": 0.0, "full": 0.0, "gap_power": 1.0, "solver": "heun", "rho": 0.0},
    )

    first: int = 40
    last: int = 40
    solver: Literal["euler", "heun", "midpoint"] = "euler"
    """One-step solver of the teacher; the papers take heun, which costs one evaluation more."""

    def jump(self, teacher: Teacher) -> Term:
        return ConsistencyJump(TeacherStep(teacher, self.solver))
