"""Improved MeanFlow: the identity read as flow matching of a reparameterised velocity.

    W = V(x_s, s, t) - (t - s) sg[dV/ds + grad V . tau],      L = E w |W - v|^2

with a network velocity `tau` in the tangent, so that `W` is a function of `x_s` alone. The
boundary version takes `tau = sg[V(x_s, s, s)]`, the head version an auxiliary velocity head that
is trained beside it by flow matching. The sign before `(t - s)` is minus: at the true map
`W = v_marginal` exactly.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import jax
from jaxtyping import Array, Float, Key

from core import rules
from core.errors import UserError
from core.flow_map import AverageVelocityMap, FlowMap, Network
from core.objective import FlowMatching, Row, RowObjective, Rows, Term
from core.path import Path
from core.plugin import Method, Plugin, Task, register
from core.teacher import Teacher
from core.times import Diagonal, LogitNormal, Mixture, OrderedPair, Point, TimeSampler, Uniform
from core.weights import Adaptive

stop = jax.lax.stop_gradient


class BoundaryJump(Term):
    """`W - v` with `tau = sg[V(x_s, s, s)]`. Source: iMF, eqs. 11-13."""

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        tau = stop(model.velocity(row.x_s, row.s, row.cond))
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, tau, row.cond)
        return V - (row.t - row.s) * stop(dV_ds) - row.v


class HeadJump(Term):
    """`(W - v, v_head - v)` with `tau = sg[v_head(x_s, s, s)]`. Source: iMF, section 4.2."""

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        del target
        tau = stop(model.with_velocity(row.x_s, row.s, row.s, row.cond)[1])
        V, dV_ds, v_head = rules.eulerian_with_head(model, row.x_s, row.s, row.t, tau, row.cond)
        return V - (row.t - row.s) * stop(dV_ds) - row.v, v_head - row.v


class HeadDiagonal(Term):
    """Flow matching of both outputs on the diagonal: `(V(x_s, s, s) - v, v_head - v)`."""

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        del target
        V, v_head = model.with_velocity(row.x_s, row.s, row.s, row.cond)
        return V - row.v, v_head - row.v


@register
@dataclass(frozen=True)
class IMF(Plugin):
    """Improved MeanFlow (arXiv 2512.02012): one-step generation from data, no teacher."""

    name: ClassVar[str] = "imf"
    family: ClassVar[str] = "meanflow"
    rule: ClassVar[str] = "Eulerian"
    supervision: ClassVar[str] = "sampled pair, own velocity in the tangent"
    source: ClassVar[str] = "arXiv 2512.02012"
    cost: ClassVar[str] = "4"

    diagonal: float = 0.5
    """Share of rows with s = t (plain flow matching)."""
    full: float = 0.0
    """Share of the jump rows that train the whole jump s = 1, t = 0 of one-step sampling."""
    uniform: float = 0.0
    """Share of the jump rows with uniform times; the rest has logit-normal times."""
    time_mean: float = -0.4
    """Mean of both logit-normal times."""
    time_std: float = 1.0
    """Standard deviation of both logit-normal times."""
    head: bool = False
    """Take the tangent from the network's velocity head (needs a head: --net.head-depth)."""
    power: float = 1.0
    """Power p of the adaptive weight 1 / (|R|^2 + c)^p; 0 is the plain square."""
    constant: float = 0.01
    """Constant c of the adaptive weight; |R|^2 is a sum over dimensions."""
    label_drop: float = 0.1
    """Probability with which a label is replaced by the null class."""

    @classmethod
    def preset(cls, kind: str) -> Self:
        if kind == "points":
            return cls(uniform=1.0, power=0.0)
        if kind == "small-image":
            return cls(full=0.25, uniform=0.3, power=0.0, label_drop=0.0)
        return cls()

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"boundary": cls.preset("points"), "head": cls(uniform=1.0, power=0.0, head=True)}

    def method(
        self, net: Network, path: Path, teacher: Teacher | None, task: Task, *, key: Key[Array, ""]
    ) -> Method:
        del teacher, key
        flow_map = AverageVelocityMap(net=net, path=path)
        if self.head and not flow_map.has_head:
            raise UserError(
                "imf with --plugin.head needs a network with a velocity head: "
                "--net dit --net.head-depth 1"
            )
        law = LogitNormal(self.time_mean, self.time_std)
        weight = Adaptive(self.power, self.constant)
        diagonal = HeadDiagonal() if self.head else FlowMatching()
        jump = HeadJump() if self.head else BoundaryJump()
        kinds = (
            Rows("diagonal", self.diagonal, Diagonal(law), diagonal, weight),
            Rows("jump", 1 - self.diagonal, self._jump_times(law), jump, weight),
        )
        return Method(flow_map, RowObjective(path, kinds, task.num_classes, self.label_drop))

    def _jump_times(self, law: LogitNormal) -> TimeSampler:
        parts = (
            OrderedPair(Point(1.0), Point(0.0)),
            OrderedPair(Uniform(), Uniform()),
            OrderedPair(law, law),
        )
        return Mixture(parts, (self.full, self.uniform, 1 - self.full - self.uniform))
