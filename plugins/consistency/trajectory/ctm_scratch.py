"""Consistency trajectory models from scratch: the segment follows the map's own velocity.

    x_u = Solver(x_s, s, u; v_ema),      v_ema(x, tau) = V_ema(x, tau, tau) = (x - g_ema) / tau

The self-induced ODE. All that it learns of the data comes from the denoising loss on the diagonal,
so that loss is never left out: its adaptive weight is at least 1. At `F = x`, where training
starts, the consistency loss has no gradient, and the official ratio would stay zero for ever.
"""

import dataclasses
from typing import Literal

from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from plugins.consistency.trajectory.plugin import TrajectoryPlugin
from plugins.consistency.trajectory.segment import Jumped, Segment, Solved


@register
class CTMScratch(TrajectoryPlugin):
    """Consistency trajectory models (arXiv 2310.02279) from scratch: their own velocity teaches."""

    card = Card(
        "ctm-scratch",
        family="consistency",
        rule="Eulerian",
        supervision="own velocity",
        source="arXiv 2310.02279",
        cost=5.5,
        whole_cost=8,
        parameterisation="F",
        gradient="F_target(F, t, 0)",
        targets="current, EMA",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.222, 0.181, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.544, 0.309, "recipes-digits"),
    )  # fmt: skip
    least = 1.0

    target_decay: float = by_kind(0.999, points=0.99, small_image=0.99)
    diagonal: float = 0.5
    """Share of rows of the denoising loss."""
    solver: Literal["euler", "heun", "midpoint"] = by_kind(
        "euler", points="heun", small_image="heun"
    )
    """Solver of the segment."""
    jumps: bool = False
    """Take the segment by jumps of the EMA map instead, as the official code's self-learning."""

    def segment(self, teacher: None) -> Segment:
        del teacher
        return Jumped(self.substeps) if self.jumps else Solved(None, self.solver, self.substeps)

    @classmethod
    def variants(cls):
        plain = cls.preset("points")
        return {"": plain, "jumps": dataclasses.replace(plain, jumps=True)}
