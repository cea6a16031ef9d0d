"""Stages, shared by progressive distillation and progressive flow map matching."""

import abc
from dataclasses import dataclass
from typing import Any

from core.flow.teacher import Teacher
from core.methods.plugin import Task
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Term
from core.times.pairs import TimeSampler, stage_length
from plugins.compositional.halves import TwoHalves


@dataclass(frozen=True)
class StagedPlugin(RowPlugin):
    """Jumps that double from stage to stage, against a copy renewed at the end of each stage.

    The student starts from the teacher's weights; in the first stage the halves are Euler steps
    along the teacher's diagonal.
    """

    needs_teacher = True
    from_teacher = True

    full: float = 0.0
    uniform: float = 0.0
    stages: int = 7
    """Stages of the training: 7 start from 128 Euler steps of the teacher."""

    def jump(self, teacher: Teacher) -> Term:
        return TwoHalves(stages=self.stages)

    @abc.abstractmethod
    def jump_times(self) -> TimeSampler:
        """The jumps of the stage that the training has reached."""

    def target_parameters(self, task: Task) -> dict[str, Any]:
        return {"target_every": stage_length(task.steps, self.stages)}
