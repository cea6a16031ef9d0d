"""Flow-anchored consistency: a continuous consistency model kept near its teacher's velocity.

    V' = sg[v + (0 - s) DV_ds],   T = sg[V + a clamp(V' - V, -1, 1)],   a = 1 - sqrt(1 - s)
    L = b e / sqrt(sg[e] + 1e-3) + |V(x_s, s, s) - v|^2 + (1 - cos(V(x_s, s, s), v))

with `e = mean |V(x_s, s, 0) - T|^2`, `b = sin(pi s / 2)` and `v` the teacher's velocity. The last
two terms anchor the diagonal, on a share of the rows. Points and small images, on which training
is short, have `b = s e^(-6 s)` instead: jumps from near the noise are learned from all the others.
"""

from typing import Literal, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import VALUE, VELOCITY, Carrier, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.row import Row
from core.objectives.weights import Reduce, Squared, Timed
from core.times.distributions import ArctanLogNormal, Point, Uniform
from core.times.pairs import OrderedPair, TimeSampler
from core.times.weights import GammaWeight, SineWeight

stop = jax.lax.stop_gradient


class AnchoredConsistency(Term):
    """`V(x_s, s, 0) - T`, and with `anchored` the residuals of the diagonal and of its direction.

    Half the squared difference of two unit vectors is `1 - cos`; the vectors lie along the last
    axis. Source: FACM (arXiv 2507.03738), algorithm 1.
    """

    teacher: Teacher
    anchored: bool = True

    @property
    def declares(self) -> Declares:
        anchors = (VELOCITY, Carrier("direction of v", _declared_unit)) if self.anchored else ()
        return Declares((VALUE, *anchors), ("teacher", "current"))

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], ...]:
        del target
        v = stop(self.teacher.velocity(row.x_s, row.s, row.cond))
        V, DV_ds = rules.eulerian(model, row.x_s, row.s, row.t, v, row.cond)
        move = jnp.clip(v + (row.t - row.s) * DV_ds - V, -1.0, 1.0)
        a = 1 - jnp.sqrt(jnp.maximum(1 - model.path.unit_time(row.s), 0.0))
        jump = V - stop(V + a * move)
        if not self.anchored:
            return (jump,)
        velocity = model.velocity(row.x_s, row.s, row.cond)
        return jump, velocity - v, (_direction(velocity) - _direction(v)) / 2**0.5


def _direction(v: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return v / jnp.sqrt(jnp.sum(v**2, axis=-1, keepdims=True) + 1e-6)


def _declared_unit(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    v = model.velocity(row.x_s, row.s, row.cond)
    return _direction(v) / 2**0.5


@register
class FACM(RowPlugin):
    """Flow-anchored consistency (arXiv 2507.03738): jumps to the data end, from a teacher."""

    card = Card(
        "facm",
        family="Eulerian",
        rule="Eulerian, t = 0",
        supervision="teacher",
        source="arXiv 2507.03738",
        cost=6.5,
        whole_cost=8,
        seed_cost=8,
        gradient="V, v, direction of v",
        targets="teacher, current",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.159, 0.112, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 1.45, 0.679, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    needs_teacher = True
    sampler = "restart"

    full: float = 0.0
    uniform: float = 0.0
    anchored: float = 0.5
    """Share of rows that also carry the anchor; FACM's own code: 1."""
    time_mean: float = -0.8
    """Mean of log tan(pi s / 2)."""
    time_std: float = by_kind(1.6, points=0.0, small_image=0.0)
    """Standard deviation of log tan(pi s / 2); 0 means uniform times."""
    weighting: Literal["sine", "gamma"] = by_kind("sine", points="gamma", small_image="gamma")
    """Weight b of a jump by its time: sin(pi s / 2), or s e^(-6 s), with which rows near the data
    count most."""
    power: float = by_kind(0.5, points=0.0, small_image=0.0)
    constant: float = 1e-3
    reduce: Reduce = "mean"

    @classmethod
    def whole(cls) -> Self:
        return cls(anchored=1.0)

    def jump(self, teacher: Teacher) -> Term:
        return AnchoredConsistency(teacher, anchored=False)

    def kinds(self, teacher: Teacher, task: Task) -> tuple[RowKind, ...]:
        both, jump = AnchoredConsistency(teacher), self.jump(teacher)
        factor = SineWeight() if self.weighting == "sine" else GammaWeight()
        times, weight = self.jump_mixture(), Timed(factor, self.weight())
        anchors = Squared(self.reduce), Squared(self.reduce)
        return (
            RowKind("anchored", self.anchored, times, both, (weight, *anchors)),
            RowKind("jump", 1 - self.anchored, times, jump, weight),
        )

    def jump_times(self) -> TimeSampler:
        own = ArctanLogNormal(self.time_mean, self.time_std) if self.time_std else Uniform()
        return OrderedPair(own, Point(0.0))
