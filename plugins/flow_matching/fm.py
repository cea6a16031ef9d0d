"""Flow matching: regress the conditional velocity; the minimiser is the marginal one.

    L = E |V(x_t, t, t) - v|^2,      v = d/dt x_t of the sampled pair.

Not a flow map: it trains the diagonal of one, so it is sampled with an ODE solver.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from jaxtyping import Array, Key

from core.flow_map import AverageVelocityMap, Network
from core.objective import FlowMatching, RowObjective, Rows
from core.path import Path
from core.plugin import Method, Plugin, Task, register
from core.teacher import Teacher
from core.times import Diagonal, LogitNormal, Uniform


@register
@dataclass(frozen=True)
class FM(Plugin):
    """Flow matching (arXiv 2210.02747): learns the velocity; sampled by an ODE solver."""

    name: ClassVar[str] = "fm"
    family: ClassVar[str] = "flow matching"
    rule: ClassVar[str] = "diagonal"
    supervision: ClassVar[str] = "sampled pair"
    source: ClassVar[str] = "arXiv 2210.02747"
    cost: ClassVar[str] = "3"

    time_mean: float = 0.0
    """Mean of the logit-normal training times."""
    time_std: float = 1.0
    """Standard deviation of the logit-normal training times; 0 means uniform times."""
    label_drop: float = 0.1
    """Probability with which a label is replaced by the null class."""

    @classmethod
    def preset(cls, kind: str) -> Self:
        if kind == "points":
            return cls(time_std=0.0)
        return cls(label_drop=0.0) if kind == "small-image" else cls()

    def method(
        self, net: Network, path: Path, teacher: Teacher | None, task: Task, *, key: Key[Array, ""]
    ) -> Method:
        del teacher, key
        law = LogitNormal(self.time_mean, self.time_std) if self.time_std > 0 else Uniform()
        rows = Rows("diagonal", 1.0, Diagonal(law), FlowMatching())
        objective = RowObjective(path, (rows,), task.num_classes, self.label_drop)
        return Method(AverageVelocityMap(net=net, path=path), objective, sampler="euler")
