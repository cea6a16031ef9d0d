"""BOOT: the teacher's ODE from noise, integrated one bootstrap step at a time.

    V(z, 1, t - d)  <-  sg[V + d / (1 - t + d) (v_teacher(F, t) - V)],      V = V(z, 1, t)

an Euler step of the teacher at the end of the jump, in terms of the average velocity. At t = 1 it
reads `V(z, 1, 1 - d) <- v_teacher(z, 1)`, so the start of the trajectory is built in.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.rules import full_products
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.distributions import Point, TimeDistribution
from core.times.steps import Step
from plugins.lagrangian.noise import NoisePlugin


class BootstrapStep(Term):
    """`V(t - d) - sg[V(t) + d / (s - t + d) (v_teacher(F(t), t) - V(t))]` at the source time s.

    Source: BOOT (arXiv 2306.05544), eq. 8, with the signal replaced by the average velocity.
    """

    teacher: Teacher
    step: float = 0.02

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("V(z, 1, t - d)", self._declared_next),), ("teacher", "target"))

    def _declared_next(self, model: FlowMap, row: Row) -> Float[Array, "*shape"]:
        t = jnp.maximum(row.t, self.step) - self.step
        return model.average_velocity(row.x_s, row.s, t, row.cond)

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        t = jnp.maximum(row.t, self.step)
        with full_products():
            V = target.average_velocity(row.x_s, row.s, t, row.cond)
            V_next = model.average_velocity(row.x_s, row.s, t - self.step, row.cond)
        v = self.teacher.velocity(row.x_s + (t - row.s) * V, t, row.cond)
        share = self.step / (row.s - t + self.step)
        return V_next - jax.lax.stop_gradient(V + share * (v - V))

    def amplification(self, step: Step | None) -> float:
        return 0.5 / self.step

    @property
    def order(self) -> int:
        return 2


@register
class BOOT(NoisePlugin):
    """BOOT (arXiv 2306.05544): data-free bootstrapping of a teacher's trajectories from noise."""

    card = Card(
        "boot",
        family="Lagrangian",
        rule="Lagrangian, s = 1",
        supervision="teacher, own earlier value",
        source="arXiv 2306.05544",
        cost=4.9,
        whole_cost=9,
        gradient="V(z, 1, t - d)",
        targets="teacher, current",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.175, None, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.236, None, "compare-digits"),
    )  # fmt: skip

    diagonal: float = 0.1
    """Share of rows at s = t = 1, which hold the start of the trajectory."""
    step: float = 0.02
    """Bootstrap step in unit time."""

    def jump(self, teacher: Teacher) -> Term:
        return BootstrapStep(teacher, self.step)

    def diagonal_distribution(self) -> TimeDistribution:
        return Point(1.0)
