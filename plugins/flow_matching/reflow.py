"""Reflow: flow matching on pairs of noise and its end under the teacher's ODE.

    x_0 = ODE_teacher(z),     L = E |V(x_t, t, t) - (d/dt x_t of the pair)|^2

Trajectories of the pairs hardly cross, so paths straighten and few Euler steps suffice. The pairs
are made once, by Diffrax, before the training.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from jaxtyping import Array, Key

from core.data.dataset import Dataset
from core.pairs import teacher_pairs
from core.plugin import register
from core.row_plugin import needed
from core.solve import Fixed
from core.teacher import Teacher
from plugins.flow_matching.fm import VelocityPlugin


@register
@dataclass(frozen=True)
class Reflow(VelocityPlugin):
    """Rectified flow (arXiv 2209.03003): straightens a teacher's paths."""

    name: ClassVar[str] = "reflow"
    supervision: ClassVar[str] = "teacher's pairs"
    source: ClassVar[str] = "arXiv 2209.03003"
    needs_teacher: ClassVar[bool] = True

    pairs: int = 32_768
    """Pairs that the teacher makes before the training."""
    solver: Literal["euler", "heun", "midpoint", "dopri5"] = "heun"
    """Diffrax solver of the teacher's ODE."""
    solver_steps: int = 32
    """Its steps; heun evaluates the teacher twice a step."""

    def dataset(self, data: Dataset, teacher: Teacher | None, *, key: Key[Array, ""]) -> Dataset:
        teacher = needed(teacher, self.name)
        method = Fixed(self.solver, self.solver_steps)
        return teacher_pairs(data, teacher, self.pairs, method, key=key)
