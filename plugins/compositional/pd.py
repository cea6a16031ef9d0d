"""Progressive distillation: one step of the student equals two of its teacher, and halve again.

    L = E |V(x_s, s, s - 2h) - sg[(V_pre(x_s, s, s - h) + V_pre(x', s - h, s - 2h)) / 2]|^2

At the end of each stage the student becomes `V_pre` and the jump doubles. Half of the rows train
the newest jump, the others all that came before, so that one network serves every number of steps.
"""

from dataclasses import dataclass
from typing import ClassVar

from core.methods.registry import register
from core.times.pairs import DyadicJumps, TimeSampler
from plugins.compositional.staged import StagedPlugin


@register
@dataclass(frozen=True)
class PD(StagedPlugin):
    """Progressive distillation (arXiv 2202.00512): halves the number of steps, stage by stage."""

    name: ClassVar[str] = "pd"
    rule: ClassVar[str] = "compositional, midpoint"
    supervision: ClassVar[str] = "teacher, then the last stage"
    source: ClassVar[str] = "arXiv 2202.00512"

    def jump_times(self) -> TimeSampler:
        return DyadicJumps(self.stages, climb=True)
