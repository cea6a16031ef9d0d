"""Lagrangian map distillation: the end of the jump moves with the teacher's velocity.

    L = E |dF/dt(x_s, s, t) - v_teacher(F(x_s, s, t), t)|^2,      dF/dt = V + (t - s) dV/dt

No gradient is stopped: it flows through the derivative and, unless `--plugin.stop-input`, through
the teacher's dependence on its input. In a space that is not flat both terms are tangent at `x_s`,
as in lsd.
"""

from typing import Literal

import jax
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import END_RATE, EVERYTHING, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.pairs import TimeSampler
from plugins.lagrangian.noise import from_noise


class LagrangianDistillation(Term):
    """`dF/dt - v_teacher(F, t)`. Source: flow map matching, eq. 3.9 (proposition 3.7)."""

    teacher: Teacher
    stop_input: bool = False

    @property
    def declares(self) -> Declares:
        if self.stop_input:
            return Declares((END_RATE,), ("teacher", "current"))
        return Declares((EVERYTHING,), ("teacher",))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        gap = row.t - row.s
        V, dV_dt = rules.lagrangian(model, row.x_s, row.s, row.t, row.cond)
        space, u = model.path.space, gap * V
        u = jax.lax.stop_gradient(u) if self.stop_input else u
        end = self.teacher.velocity(space.exp(row.x_s, u), row.t, row.cond)
        return V + gap * dV_dt - space.target_pull(row.x_s, u, end)


@register
class LMD(RowPlugin):
    """Lagrangian map distillation (arXiv 2406.07507): the exact gradient, from a teacher."""

    card = Card(
        "lmd",
        family="Lagrangian",
        rule="Lagrangian",
        supervision="teacher",
        source="arXiv 2406.07507",
        cost=8,
        whole_cost=8,
        seed_cost=9,
        gradient="everything",
        targets="teacher",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.134, 0.14, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.416, 0.272, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    both_ways = True
    needs_teacher = True
    spaces = True

    uniform: float = by_kind(1.0, small_image=0.3)
    stop_input: bool = False
    """Stop the gradient at the teacher's input: one forward-pass equivalent less."""

    @property
    def teacher_derivatives(self) -> tuple[Literal["x", "t"], ...]:
        return () if self.stop_input else ("x",)

    def jump(self, teacher: Teacher) -> Term:
        return LagrangianDistillation(teacher, self.stop_input)

    def whole_jumps(self) -> TimeSampler:
        return from_noise()
