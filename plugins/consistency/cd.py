"""Consistency distillation: neighbours on one trajectory of the teacher map to the same clean end.

    L = E |F(x_s, s, 0) - sg[F_target(x_u, u, 0)]|^2,    x_u = one solver step of the teacher

`(s, u)` are neighbours of a fixed grid; one Diffrax step from `s` to `u`.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
from jaxtyping import Array, Float

from core.flow_map import FlowMap
from core.objective import Row, TeacherMatching, Term
from core.plugin import register
from core.row_plugin import needed, presets
from core.solve import Fixed
from core.teacher import Teacher
from plugins.consistency.ct import CT, ConsistencyJump

ORDERS = {"euler": 1, "heun": 2, "midpoint": 2}


class DistilledJump(ConsistencyJump):
    """`F(x_s, s, 0) - sg[F_target(x_u, u, 0)]`, `x_u` by the teacher. Source: eq. 7."""

    teacher: Teacher = None  # pyright: ignore[reportAssignmentType]
    solver: str = "heun"

    def neighbour(self, model: FlowMap, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        step = Fixed(self.solver, 1)
        x_u = self.teacher.flow(row.x_s, row.s, u, row.cond, method=step)
        return jax.lax.stop_gradient(x_u)

    @property
    def order(self) -> int:
        return ORDERS[self.solver] + 1

    def with_step(self, step: float) -> Term:
        return dataclasses.replace(self, step=step)


@register
@dataclass(frozen=True)
class CD(CT):
    """Consistency distillation (arXiv 2303.01469): jumps to the data end, from a teacher."""

    name: ClassVar[str] = "cd"
    supervision: ClassVar[str] = "teacher"
    cost: ClassVar[float] = 5
    whole_cost: ClassVar[float | None] = 5
    seed_cost: ClassVar[float | None] = 5
    needs_teacher: ClassVar[bool] = True
    presets = presets(
        {"uniform": 0.0, "solver": "heun"}, {"uniform": 0.0, "full": 0.0, "solver": "heun"}
    )

    first: int = 40
    last: int = 40
    solver: Literal["euler", "heun", "midpoint"] = "euler"
    """One-step solver of the teacher; the papers take heun, which costs one evaluation more."""

    def terms(self, teacher: Teacher | None) -> tuple[Term, Term]:
        teacher = needed(teacher, self.name)
        return TeacherMatching(teacher), DistilledJump(teacher=teacher, solver=self.solver)
