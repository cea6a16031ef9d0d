"""Flags of this family of methods, and how the samples are made."""

from dataclasses import dataclass

from core.errors import require
from core.flow.flow_map import FORMS, FlowMap, Form, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Teacher
from core.methods.plugin import Plugin, Task
from core.nets.perception import Identity, Perception
from core.objectives.one_step import OneStep
from plugins.distribution.anchor import Anchor


@dataclass(frozen=True)
class DistributionPlugin(Plugin):
    """A method on the distribution of samples `F(x_s, s, 0)`. Give it a trained map: --init.

    It is one network evaluation of the map that is trained; its other jumps drift with it, and
    nothing holds them.
    """

    most_nfe = 1
    tunes = True

    form: Form = "average"
    """The network's output: that of the run that --init names."""
    wait: float = 0.1
    """Fraction of the training in which the samples are only looked at, and the map stays."""
    anchor: float = 0.0
    """Weight of the squared distance to the samples of the map that training began with."""
    middle: float = 0.0
    """Share of the samples that are jumps from a noised example instead of from noise."""

    def __post_init__(self):
        require(0 <= self.wait < 1, f"--plugin.wait must be in [0, 1), got {self.wait}")
        require(0 <= self.middle <= 1, f"--plugin.middle must be in [0, 1], got {self.middle}")
        require(self.anchor >= 0, f"--plugin.anchor must not be negative, got {self.anchor}")

    def generator(self, path: Interpolant, task: Task) -> OneStep:
        """How samples are made."""
        return OneStep(path, task.num_classes, self.middle)

    def anchored(
        self, path: Interpolant, task: Task, perception: Perception = Identity()
    ) -> Anchor:
        """The anchor of these samples."""
        return Anchor(self.anchor, self.generator(path, task), perception)

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        """The map that is trained."""
        return FORMS[self.form](net=net, path=gaussian(path))

    def waiting(self, task: Task) -> int:
        """The first step in which the map is trained."""
        return round(self.wait * task.steps)

    def starts_from(self, teacher: Teacher | None) -> bool:
        return teacher is not None
