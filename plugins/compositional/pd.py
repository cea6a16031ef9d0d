"""Progressive distillation: one step of the student equals two of its teacher, and halve again.

    L = E |V(x_s, s, s - 2h) - sg[(V_pre(x_s, s, s - h) + V_pre(x', s - h, s - 2h)) / 2]|^2

The student starts from the teacher's weights. The training is divided into equal stages; at the end
of each the student becomes `V_pre` and the jump doubles. In the first stage the halves are Euler
steps along the teacher's diagonal.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Array, Key

from core.flow_map import FlowMap, Network
from core.objective import Row, TeacherMatching, Term
from core.path import Path
from core.plugin import Method, Task, register
from core.row_plugin import RowPlugin, needed, presets
from core.teacher import Teacher
from core.times import DyadicJumps, TimeSampler, stage_of
from plugins.compositional.shortcut import TwoHalves


class StagedHalves(TwoHalves):
    """`V - sg[two halves by the last stage's map]`; Euler halves in the first stage.

    Source: progressive distillation (arXiv 2202.00512), algorithm 2, in terms of velocities.
    """

    stages: int = 7

    def euler(self, model: FlowMap, row: Row) -> Array:
        return stage_of(row.progress, self.stages) == 0


@register
@dataclass(frozen=True)
class PD(RowPlugin):
    """Progressive distillation (arXiv 2202.00512): halves the number of steps, stage by stage."""

    name: ClassVar[str] = "pd"
    family: ClassVar[str] = "compositional"
    rule: ClassVar[str] = "compositional, midpoint"
    supervision: ClassVar[str] = "teacher, then the last stage"
    source: ClassVar[str] = "arXiv 2202.00512"
    cost: ClassVar[float] = 5
    whole_cost: ClassVar[float | None] = 5
    needs_teacher: ClassVar[bool] = True
    from_teacher: ClassVar[bool] = True
    presets = presets({"uniform": 0.0}, {"uniform": 0.0, "full": 0.0})

    stages: int = 7
    """Stages of the training: 7 start from 128 Euler steps of the teacher."""

    def terms(self, teacher: Teacher | None) -> tuple[Term, Term]:
        return TeacherMatching(needed(teacher, self.name)), StagedHalves(stages=self.stages)

    def jump_times(self) -> TimeSampler:
        return DyadicJumps(self.stages, climb=True)

    def method(
        self, net: Network, path: Path, teacher: Teacher | None, task: Task, *, key: Key[Array, ""]
    ) -> Method:
        method = super().method(net, path, teacher, task, key=key)
        return dataclasses.replace(method, target_every=max(task.steps // self.stages, 1))
