"""Eulerian map distillation: the end of the jump does not change along the teacher's flow.

    L = E |dF/ds + grad F . v_teacher(x_s, s)|^2,     DF_ds = v_teacher - V + (t - s) DV_ds

No gradient is stopped: it flows through both derivatives.
"""

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
from core.objectives.carriers import EVERYTHING, Declares
from core.objectives.objective import Term
from core.objectives.row import Row


class EulerianDistillation(Term):
    """`DF_ds` along the teacher. Source: flow map matching (arXiv 2406.07507), proposition 3.8."""

    teacher: Teacher

    @property
    def declares(self) -> Declares:
        return Declares((EVERYTHING,), ("teacher",))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        v = jax.lax.stop_gradient(self.teacher.velocity(row.x_s, row.s, row.cond))
        V, DV_ds = rules.eulerian(model, row.x_s, row.s, row.t, v, row.cond)
        return v - V + (row.t - row.s) * DV_ds


@register
class EMD(RowPlugin):
    """Eulerian map distillation (arXiv 2406.07507): the exact gradient, from a teacher."""

    card = Card(
        "emd",
        family="Eulerian",
        rule="Eulerian",
        supervision="teacher",
        source="arXiv 2406.07507",
        cost=7,
        whole_cost=7,
        seed_cost=7,
        gradient="everything",
        targets="teacher",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.146, 0.14,  "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.526, 0.233, "compare-digits"),
    )  # fmt: skip
    both_ways = True
    needs_teacher = True

    uniform: float = by_kind(1.0, small_image=0.3)

    def jump(self, teacher: Teacher) -> Term:
        return EulerianDistillation(teacher)
