"""Consistency trajectory models without the adversarial term: jumps from s and from u agree.

    L = E |F_ema(F(x_s, s, t), t, 0) - sg[F_ema(F(x_u, u, t), t, 0)]|^2 + E |V(x_s, s, s) - v|^2

`x_u` is the teacher's solution from `s` to `u`, `t <= u <= s`. Both ends are compared at the data
end, through a frozen EMA of the map whose input carries the gradient. Diagonal rows regress the
sampled pair (the denoising loss, in terms of the velocity).
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from core.flow_map import FlowMap
from core.objective import FlowMatching, Row, Term
from core.plugin import Task, register
from core.row_plugin import RowPlugin, needed, presets
from core.solve import Fixed
from core.teacher import Teacher, frozen
from plugins.consistency.jump import ORDERS


class TrajectoryJump(Term):
    """`F_ema(F(x_s, s, t), t, 0) - sg[F_ema(F(x_u, u, t), t, 0)]`; `u` at most `reach` below `s`.

    The inner jump of the target takes the current parameters. Source: CTM (arXiv 2310.02279),
    eqs. 11-12, with the placement of the official code.
    """

    teacher: Teacher
    solver: str = "heun"
    substeps: int = 1
    reach: float = 0.25

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        end = jnp.full_like(row.s, model.path.t_min)
        share = jr.uniform(row.key, (), row.s.dtype)
        u = row.s - share * jnp.minimum(self.reach, row.s - row.t)
        method = Fixed(self.solver, self.substeps)
        x_u = self.teacher.flow(row.x_s, row.s, u, row.cond, method=method)
        near = frozen(model)(x_u, u, row.t, row.cond)
        here = target(model(row.x_s, row.s, row.t, row.cond), row.t, end, row.cond)
        return here - jax.lax.stop_gradient(target(near, row.t, end, row.cond))

    @property
    def order(self) -> int:
        return ORDERS[self.solver] + 1

    def with_step(self, step: float) -> Term:
        return dataclasses.replace(self, reach=step)


@register
@dataclass(frozen=True)
class CTM(RowPlugin):
    """Consistency trajectory models (arXiv 2310.02279), distilled, without the GAN term."""

    name: ClassVar[str] = "ctm"
    family: ClassVar[str] = "consistency"
    rule: ClassVar[str] = "Eulerian"
    supervision: ClassVar[str] = "teacher"
    parameterisation: ClassVar[str] = "F"
    source: ClassVar[str] = "arXiv 2310.02279"
    cost: ClassVar[float] = 6.75
    whole_cost: ClassVar[float | None] = 8
    seed_cost: ClassVar[float | None] = 7
    needs_teacher: ClassVar[bool] = True
    presets = presets({"solver": "heun", "substeps": 2}, {"solver": "heun", "substeps": 2})

    diagonal: float = 0.25
    """Share of rows of the denoising loss."""
    solver: Literal["euler", "heun", "midpoint"] = "euler"
    """Solver of the teacher's segment; the paper takes heun."""
    substeps: int = 1
    """Solver steps of a segment."""
    reach: float = 0.25
    """Longest segment in unit time."""
    target_decay: float = 0.999
    """Decay of the EMA through which both ends are compared; 0 for the current parameters."""

    def terms(self, teacher: Teacher | None) -> tuple[Term, Term]:
        teacher = needed(teacher, self.name)
        return FlowMatching(), TrajectoryJump(teacher, self.solver, self.substeps, self.reach)

    @classmethod
    def whole(cls):
        return cls(diagonal=0.0)

    def target(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}
