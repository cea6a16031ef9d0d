"""Consistency trajectory models, distilled: the segment from s to u is solved with the teacher.

    x_u = Solver(x_s, s, u; v_teacher)

What is done with it, and the further parts of the loss, stand in `plugin`.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

from core.flow.teacher import Teacher
from core.methods.registry import register
from core.methods.row_plugin import needed
from plugins.consistency.trajectory.plugin import TrajectoryPlugin, ctm_presets
from plugins.consistency.trajectory.segment import Segment, Solved


@register
@dataclass(frozen=True)
class CTM(TrajectoryPlugin):
    """Consistency trajectory models (arXiv 2310.02279), distilled from a teacher."""

    name: ClassVar[str] = "ctm"
    supervision: ClassVar[str] = "teacher"
    cost: ClassVar[float] = 6.75
    seed_cost: ClassVar[float | None] = 7
    needs_teacher: ClassVar[bool] = True
    presets = ctm_presets(solver="heun", substeps=2)

    diagonal: float = 0.25
    """Share of rows of the denoising loss; 0 leaves it out."""
    solver: Literal["euler", "heun", "midpoint"] = "euler"
    """Solver of the teacher's segment; the paper takes heun."""

    def segment(self, teacher: Teacher | None) -> Segment:
        return Solved(needed(teacher, self.name), self.solver, self.substeps)

    @classmethod
    def variants(cls):
        plain = cls.preset("points")
        combined = dataclasses.replace(plain, denoising=2.0, gan=1.0)
        endpoint = dataclasses.replace(plain, form="endpoint", edm_weight=True)
        return {"": plain, "endpoint": endpoint, "combined": combined}
