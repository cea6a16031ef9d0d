"""Physics-informed distillation: the teacher's ODE as a residual along a student trajectory.

    L = E |dF/dt(z, 1, t) - sg[v_teacher(F(z, 1, t), t)]|^2

from noise alone. The derivative is a difference quotient over `step`, whose gradient flows through
both evaluations.
"""

from dataclasses import replace
from typing import Literal, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.conversions import convert
from core.flow.flow_map import FlowMap
from core.flow.path import Path, gaussian
from core.flow.rules import full_products
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.carriers import END_RATE, Carrier, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.perceptual import Compared, Comparing, perceived, velocity_scale
from core.objectives.row import Row
from core.times.steps import Step
from core.train.features import open_perception
from plugins.lagrangian.noise import NoisePlugin


class PhysicsInformed(Comparing):
    """`(F(t) - F(t')) / (t - t') - sg[v_teacher(F(t), t)]`, `t'` one `step` nearer to the noise.

    Divided by `t - s` nowhere: `V + (t' - s) (V - V') / (t - t')`. Source: PID, eq. 8.
    """

    teacher: Teacher
    step: float = 0.004

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("dF/dt", self._declared_quotient),), ("teacher", "current"))

    def _declared_quotient(self, model: FlowMap, row: Row) -> Float[Array, "*shape"]:
        t = jnp.where(row.t + self.step > row.s, row.t - self.step, row.t + self.step)
        ends = [model(row.x_s, row.s, time, row.cond) for time in (row.t, t)]
        return (ends[1] - ends[0]) / (t - row.t)

    def compared(self, model: FlowMap, target: FlowMap, row: Row) -> Compared:
        del target
        step = jnp.where(row.t + self.step > row.s, -self.step, self.step)
        with full_products():
            encoding = model.encode(row.x_s, row.s, row.cond)
            V, V_next = model.decode(encoding, row.t), model.decode(encoding, row.t + step)
        end = jax.lax.stop_gradient(row.x_s + (row.t - row.s) * V)
        v = self.teacher.velocity(end, row.t, row.cond)
        slope = (V_next - V) / step
        residual = V + (row.t + step - row.s) * slope - jax.lax.stop_gradient(v)
        return _denoised(gaussian(model.path), residual, v, end, row.t)

    def amplification(self, step: Step | None) -> float:
        return 0.5 / self.step

    @property
    def order(self) -> int:
        return 1


class PhysicsDerivative(Comparing):
    """The limit of `PhysicsInformed` at small steps: `dF/dt - sg[v_teacher(F(t), t)]`, exact."""

    teacher: Teacher

    @property
    def declares(self) -> Declares:
        return Declares((END_RATE,), ("teacher", "current"))

    def compared(self, model: FlowMap, target: FlowMap, row: Row) -> Compared:
        del target
        gap = row.t - row.s
        V, dV_dt = rules.lagrangian(model, row.x_s, row.s, row.t, row.cond)
        end = jax.lax.stop_gradient(row.x_s + gap * V)
        v = self.teacher.velocity(end, row.t, row.cond)
        residual = V + gap * dV_dt - jax.lax.stop_gradient(v)
        return _denoised(gaussian(model.path), residual, v, end, row.t)


def _denoised(
    path: Path,
    residual: Float[Array, "*shape"],
    v: Float[Array, "*shape"],
    end: Float[Array, "*shape"],
    t: Float[Array, ""],
) -> Compared:
    """Compared with the example that the teacher's velocity at the end denoises it to (PID, eq. 8,
    which is written so)."""
    wanted = convert(path, v, end, t, source="velocity", target="x_0")
    return Compared(residual, wanted, velocity_scale(path, t))


@register
class PID(NoisePlugin):
    """Physics-informed distillation (arXiv 2411.08378): one-step student, noise and a teacher."""

    card = Card(
        "pid",
        family="Lagrangian",
        rule="Lagrangian, s = 1",
        supervision="teacher",
        source="arXiv 2411.08378",
        cost=7,
        whole_cost=7,
        seed_cost=7,
        parameterisation="F",
        gradient="dF/dt",
        targets="teacher, current",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.136, None, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.198, None, "recipes-digits"),
    )  # fmt: skip

    step: float = 0.004
    """Step of the difference quotient in unit time."""
    derivative: Literal["difference", "exact"] = "difference"
    """The quotient over the step, or its limit by a Jacobian-vector product, for bfloat16."""
    features: str = "identity"
    """Features in which denoised ends are compared (LPIPS): efficientnet-lite0, inception=FILE,
    dinov2=FILE, or a run folder of apps.features; identity compares the values."""
    values: float = 0.0
    """Factor of the distance of the values themselves, where there are features."""

    @classmethod
    def variants(cls) -> dict[str, Self]:
        plain = cls.preset("points")
        return {"": plain, "exact": replace(plain, derivative="exact")}

    def jump(self, teacher: Teacher) -> Term:
        exact = self.derivative == "exact"
        return PhysicsDerivative(teacher) if exact else PhysicsInformed(teacher, self.step)

    def kinds(self, teacher: Teacher, task: Task) -> tuple[RowKind, ...]:
        perception = open_perception(self.features, task.shape)
        return perceived(super().kinds(teacher, task), perception, self.values)
