"""Consistency training: neighbours on one noisy line map to the same clean end.

    L = E |F(x_s, s, 0) - sg[F(x_u, u, 0)]|^2,    x_s, x_u from one pair (x_0, z)

`(s, u)` are neighbours of a grid that is refined during training. The velocity is the sampled
pair's, so the fixed point has a bias that vanishes with the step. The targets use the current
parameters: with an EMA the limit of fine grids is wrong.
"""

from dataclasses import dataclass
from typing import ClassVar

from core.flow.teacher import Teacher
from core.methods.registry import register
from core.objectives.objective import FlowMatching, Term
from plugins.consistency.base import GridPlugin
from plugins.consistency.jump import ConsistencyJump, SameNoise


@register
@dataclass(frozen=True)
class CT(GridPlugin):
    """Consistency training (arXiv 2303.01469): jumps to the data end, no teacher."""

    name: ClassVar[str] = "ct"
    supervision: ClassVar[str] = "sampled pair, vanishing bias"
    cost: ClassVar[float] = 4
    whole_cost: ClassVar[float | None] = 4
    seed_cost: ClassVar[float | None] = 4

    def terms(self, teacher: Teacher | None) -> tuple[Term, Term]:
        del teacher
        return FlowMatching(), ConsistencyJump(SameNoise())
