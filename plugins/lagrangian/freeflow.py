"""FreeFlow: data-free distillation from noise; an auxiliary velocity corrects the distribution.

    prediction   V(z, 1, t) <- sg[v_teacher(F, t) - (t - 1) dV/dt]            (from noise z)
    correction   descend  b <V(z, 1, 0), sg[g(I_r, r) - v_teacher(I_r, r)]>
    auxiliary    flow matching of g on the student's own samples x^g = F(z, 1, 0)

`I_r` is the sample `x^g` noised to level `r`. The derivative is a difference quotient. `g` is a
second network, the player "auxiliary".
"""

from dataclasses import replace
from typing import Literal, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.flow import rules
from core.flow.flow_map import AverageVelocityMap, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Method, Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.carriers import VALUE, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.row import Row
from core.objectives.weights import Reduce, Squared
from core.times.distributions import LogitNormal, Point
from core.times.pairs import OrderedPair
from core.times.steps import Step
from plugins.lagrangian.ayf_lmd import StoppedLagrangian
from plugins.lagrangian.correction import Correction
from plugins.lagrangian.noise import NoisePlugin

stop = jax.lax.stop_gradient


class Prediction(Term):
    """`V - sg[v_teacher(F, t) - (t - s) dV/dt]`, by a quotient over `step`. Source: eq. 9.

    Its limit at small steps is `StoppedLagrangian`.
    """

    teacher: Teacher
    step: float = 0.005

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("teacher", "current"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        towards = jnp.where(row.t > self.step, -1.0, 1.0)
        quotient = rules.FiniteDifference(self.step)
        encoding, gap = model.encode(row.x_s, row.s, row.cond), row.t - row.s
        V, slope = quotient(lambda t: model.decode(encoding, t), (row.t,), (towards,))
        v = self.teacher.velocity(stop(row.x_s + gap * V), row.t, row.cond)
        return V - stop(v - gap * towards * slope)

    def amplification(self, step: Step | None) -> float:
        return 0.5 / self.step

    @property
    def order(self) -> int:
        return 1


@register
class FreeFlow(NoisePlugin):
    """FreeFlow (arXiv 2511.19428): one-step student from noise, a teacher and an auxiliary."""

    card = Card(
        "freeflow",
        family="Lagrangian",
        rule="Lagrangian, s = 1",
        supervision="teacher, distribution of the samples",
        source="arXiv 2511.19428",
        cost=5.5,
        whole_cost=12,
        seed_cost=12,
        gradient="V, V(z, 1, 0)",
        targets="teacher, current, auxiliary",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.168, None, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.247, None, "compare-digits"),
    )  # fmt: skip

    correction: float = 0.25
    """Share of correction rows."""
    strength: float = 1.0
    """Strength b of the correction."""
    step: float = 0.005
    """Step of the difference quotient in unit time."""
    derivative: Literal["difference", "exact"] = "difference"
    """The quotient over the step, or its limit by a Jacobian-vector product, for bfloat16."""
    power: float = by_kind(1.0, points=0.0, small_image=0.0)
    reduce: Reduce = "mean"
    noise_mean: float = 1.4
    """Mean of the logit-normal noise level r of the correction; 1.4 is near r = 0.8."""

    @classmethod
    def variants(cls) -> dict[str, Self]:
        plain = cls.preset("points")
        return {"": plain, "exact": replace(plain, derivative="exact")}

    def jump(self, teacher: Teacher) -> Term:
        exact = self.derivative == "exact"
        return StoppedLagrangian(teacher) if exact else Prediction(teacher, self.step)

    def kinds(self, teacher: Teacher, task: Task) -> tuple[RowKind, ...]:
        prediction, correction = self.jump(teacher), Correction(teacher, self.strength)
        levels = OrderedPair(Point(1.0), LogitNormal(self.noise_mean, 1.0))
        plain = Squared(self.reduce)
        return (
            RowKind("jump", 1 - self.correction, self.jump_mixture(), prediction, self.weight()),
            RowKind("correction", self.correction, levels, correction, plain),
        )

    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        method = super().method(net, path, teacher, task, key=key)
        auxiliary = AverageVelocityMap(net=jax.tree.map(jnp.copy, net), path=path)
        return replace(method, players={**method.players, "auxiliary": auxiliary})
