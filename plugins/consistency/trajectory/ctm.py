"""Consistency trajectory models, distilled: the segment from s to u is solved with the teacher.

    x_u = Solver(x_s, s, u; v_teacher)

Its use, and the further parts of the loss, are in `plugin`.
"""

import dataclasses
from typing import Literal

from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from plugins.consistency.trajectory.plugin import TrajectoryPlugin
from plugins.consistency.trajectory.segment import Segment, Solved


@register
class CTM(TrajectoryPlugin):
    """Consistency trajectory models (arXiv 2310.02279), distilled from a teacher."""

    card = Card(
        "ctm",
        family="consistency",
        rule="Eulerian",
        supervision="teacher",
        source="arXiv 2310.02279",
        cost=6.75,
        whole_cost=8,
        seed_cost=7,
        parameterisation="F",
        gradient="F_target(F, t, 0)",
        targets="teacher, current, EMA",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.181, 0.158, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.412, 0.21,  "compare-digits"),
    )  # fmt: skip
    needs_teacher = True

    substeps: int = by_kind(1, points=2, small_image=2)
    diagonal: float = 0.25
    """Share of rows of the denoising loss; 0 leaves it out."""
    solver: Literal["euler", "heun", "midpoint"] = by_kind(
        "euler", points="heun", small_image="heun"
    )
    """Solver of the teacher's segment; the paper takes heun."""

    def segment(self, teacher: Teacher) -> Segment:
        return Solved(teacher, self.solver, self.substeps)

    @classmethod
    def variants(cls):
        plain = cls.preset("points")
        combined = dataclasses.replace(plain, denoising=2.0, gan=1.0)
        endpoint = dataclasses.replace(plain, form="endpoint", edm_weight=True)
        return {"": plain, "endpoint": endpoint, "combined": combined}
