"""Drifting: a one-step generator, trained until attraction and repulsion of its samples balance.

    x = F(z, 1, 0),   L = E |x / c - sg[x / c + sum_tau V_tau / rms(V_tau)]|^2

There is no time and no trajectory: the map is used from noise to data only, and which noise becomes
which sample is up to it. `V` is the field of `field.py` over the batch.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Array, Key

from core.errors import require
from core.flow_map import AverageVelocityMap, Network
from core.path import Path
from core.plugin import Method, Plugin, Task, register
from core.teacher import Teacher
from plugins.drifting.loss import DriftObjective


@register
@dataclass(frozen=True)
class Drift(Plugin):
    """Drifting models (Deng et al., 2026): one step from noise, no teacher, no time."""

    name: ClassVar[str] = "drift"
    family: ClassVar[str] = "drifting"
    rule: ClassVar[str] = "none (a field between laws)"
    supervision: ClassVar[str] = "data"
    parameterisation: ClassVar[str] = "F(z, 1, 0)"
    source: ClassVar[str] = "Deng et al., 2026"
    cost: ClassVar[float] = 3
    whole_cost: ClassVar[float | None] = 3
    most_nfe: ClassVar[int | None] = 1
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    """Ranges of the kernel, in units of the mean distance; a field for each."""
    guidance: float = 1.0
    """Guidance scale that the samples are trained for, by mixing data of all classes into the
    negatives; 1 is none. Needs labels."""

    def __post_init__(self):
        positive = bool(self.temperatures) and min(self.temperatures) > 0
        require(positive, f"--plugin.temperatures must be positive, got {self.temperatures}")
        require(self.guidance >= 1, f"--plugin.guidance must be at least 1, got {self.guidance}")

    def method(
        self, net: Network, path: Path, teacher: Teacher | None, task: Task, *, key: Key[Array, ""]
    ) -> Method:
        del teacher, key
        labelled = task.num_classes > 0
        require(self.guidance == 1 or labelled, "--plugin.guidance needs data with labels")
        objective = DriftObjective(path, self.temperatures, self.guidance, task.num_classes)
        return Method(AverageVelocityMap(net=net, path=path), objective)
