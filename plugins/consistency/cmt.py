"""Consistency mid-training: regression on the teacher's own jumps.

    L = E |V(x_s, s, t) - sg[V_teacher(x_s, s, t)]|^2

`V_teacher` is the mean velocity of a numerical solution of the teacher's ODE. No derivative of the
model and no target of its own: a stage between a velocity model and any flow map, which goes on
from it with `--init runs/cmt-...`. The paper takes both ends from one cached trajectory that starts
at noise; here `x_s` is a noised example and the solution is made for it.
"""

from typing import Literal

from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.solve import FixedSteps, solve_average_velocity
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import VALUE, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.distributions import Point
from core.times.pairs import OrderedPair, TimeSampler
from plugins.consistency.jump import ORDERS, stop


class TrajectoryMatching(Term):
    """`V(x_s, s, t) - sg[V_teacher]`, by `substeps` equal steps of a solver.

    Source: CMT (arXiv 2509.24526), eqs. 6 and 9.
    """

    teacher: Teacher
    solver: str = "heun"
    substeps: int = 8

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("teacher",))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        solution = solve_average_velocity(
            lambda x, t: self.teacher.velocity(x, t, row.cond),
            row.x_s,
            row.s,
            row.t,
            stepping=FixedSteps(self.solver, self.substeps),
        )
        return model.average_velocity(row.x_s, row.s, row.t, row.cond) - stop(solution.x)

    @property
    def order(self) -> int:
        return ORDERS[self.solver]

    def with_step(self, step: float) -> Term:
        return TrajectoryMatching(self.teacher, self.solver, max(round(1 / (5 * step)), 1))


@register
class CMT(RowPlugin):
    """Consistency mid-training (arXiv 2509.24526): regress the jumps of a teacher's solver."""

    card = Card(
        "cmt",
        rule="none (regression)",
        supervision="teacher's solutions",
        source="arXiv 2509.24526",
        cost=4,
        whole_cost=19,
        targets="teacher",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.145, 0.136, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.257, 0.17, "recipes-digits"),
    )  # fmt: skip
    needs_teacher = True

    to_data: bool = False
    """Only jumps to the data end, before a consistency model."""
    solver: Literal["euler", "heun", "midpoint"] = "heun"
    """Solver of the teacher's ODE."""
    substeps: int = 8
    """Its steps for each jump."""

    def jump(self, teacher: Teacher) -> Term:
        return TrajectoryMatching(teacher, self.solver, self.substeps)

    def jump_times(self) -> TimeSampler:
        return (
            OrderedPair(self.distribution(), Point(0.0)) if self.to_data else super().jump_times()
        )
