"""MeanFlow: the Eulerian identity with the conditional velocity in place of the marginal one.

    L = E w |V(x_s, s, t) - sg[v + (t - s) (dV/ds + grad V . v)]|^2

One `jvp` with tangent `(v, 1, 0)`, stopped. At the true map the residual is `grad F (v_marginal
- v)`: zero in the mean, not per example.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import jax
from jaxtyping import Array, Float, Key

from core import rules
from core.flow_map import AverageVelocityMap, FlowMap, Network
from core.objective import FlowMatching, Row, RowObjective, Rows, Term
from core.path import Path
from core.plugin import Method, Plugin, Task, register
from core.teacher import Teacher
from core.times import Diagonal, LogitNormal, OrderedPair, Uniform
from core.weights import Adaptive


class MeanFlowJump(Term):
    """`V - sg[v + (t - s) DV_ds]`. Source: MeanFlow, eqs. 9-11."""

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, row.v, row.cond)
        return V - jax.lax.stop_gradient(row.v + (row.t - row.s) * dV_ds)


@register
@dataclass(frozen=True)
class MF(Plugin):
    """MeanFlow (arXiv 2505.13447): average velocity from data, one network, no teacher."""

    name: ClassVar[str] = "mf"
    family: ClassVar[str] = "meanflow"
    rule: ClassVar[str] = "Eulerian"
    supervision: ClassVar[str] = "sampled pair"
    source: ClassVar[str] = "arXiv 2505.13447"
    cost: ClassVar[str] = "3.25"

    diagonal: float = 0.75
    """Share of rows with s = t (plain flow matching)."""
    time_mean: float = -0.4
    """Mean of both logit-normal times."""
    time_std: float = 1.0
    """Standard deviation of both logit-normal times; 0 means uniform times."""
    power: float = 1.0
    """Power p of the adaptive weight 1 / (|R|^2 + c)^p; 0 is the plain square."""
    constant: float = 0.01
    """Constant c of the adaptive weight; |R|^2 is a sum over dimensions."""
    label_drop: float = 0.1
    """Probability with which a label is replaced by the null class."""

    @classmethod
    def preset(cls, kind: str) -> Self:
        if kind == "points":
            return cls(diagonal=0.5, time_std=0.0, power=0.0)
        return cls(diagonal=0.5, power=0.0, label_drop=0.0) if kind == "small-image" else cls()

    def method(
        self, net: Network, path: Path, teacher: Teacher | None, task: Task, *, key: Key[Array, ""]
    ) -> Method:
        del teacher, key
        law = LogitNormal(self.time_mean, self.time_std) if self.time_std > 0 else Uniform()
        weight = Adaptive(self.power, self.constant)
        kinds = (
            Rows("diagonal", self.diagonal, Diagonal(law), FlowMatching(), weight),
            Rows("jump", 1 - self.diagonal, OrderedPair(law, law), MeanFlowJump(), weight),
        )
        objective = RowObjective(path, kinds, task.num_classes, self.label_drop)
        return Method(AverageVelocityMap(net=net, path=path), objective)
