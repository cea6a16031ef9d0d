"""AYF's Lagrangian distillation: the right side of the rule is stopped, derivative included.

    L = E |V(x_s, s, t) - sg[v_teacher(F, t) - (t - s) dV/dt]|^2

the limit of one Euler step of the teacher at the end of the jump. A semigradient: one backward
pass through the value alone.
"""

import jax
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import VALUE, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.distributions import LogitNormal
from core.times.pairs import Gap, TimeSampler


class StoppedLagrangian(Term):
    """`V - sg[v_teacher(F, t) - (t - s) dV/dt]`. Source: Align Your Flow, theorem 2.3."""

    teacher: Teacher

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("teacher", "current"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        gap = row.t - row.s
        V, dV_dt = rules.lagrangian(model, row.x_s, row.s, row.t, row.cond)
        end = jax.lax.stop_gradient(row.x_s + gap * V)
        v = self.teacher.velocity(end, row.t, row.cond)
        return V - jax.lax.stop_gradient(v - gap * dV_dt)


@register
class AYFLMD(RowPlugin):
    """Lagrangian form of Align Your Flow (arXiv 2506.14603): stopped derivative, from a teacher."""

    card = Card(
        "ayf-lmd",
        family="Lagrangian",
        rule="Lagrangian",
        supervision="teacher",
        source="arXiv 2506.14603",
        cost=5,
        whole_cost=5,
        seed_cost=6,
        targets="teacher, current",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.137, 0.137, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.232, 0.183, "compare-digits"),
    )  # fmt: skip
    both_ways = True
    needs_teacher = True

    time_mean: float = -0.8
    """Mean of the logit-normal gap s - t."""

    def jump(self, teacher: Teacher) -> Term:
        return StoppedLagrangian(teacher)

    def jump_times(self) -> TimeSampler:
        return Gap(LogitNormal(self.time_mean, self.time_std))
