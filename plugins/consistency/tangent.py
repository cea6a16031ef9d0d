"""Continuous-time consistency: the tangent `df/ds` along the flow is pushed to zero.

    L = E 2 w <f(x_s, s), sg[df/ds]>,   f(x, s) = F(x, s, 0),
    df/ds = d_s f + grad f . v = v - V + (t - s) DV_ds   at t = 0

`v` is the teacher's velocity (`ccd`) or the pair's (`cct`). Only the gradient means something, not
the value. It is the limit of the finite-step loss divided by its step.
"""

from dataclasses import dataclass

from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.carriers import JUMP, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from plugins.consistency.base import WeightedPlugin
from plugins.consistency.jump import stop


class TangentJump(Term):
    """`F - sg[F - dF/ds]`, whose square has the gradient of `2 <F, sg[dF/ds]>`.

    Source: Consistency Models (arXiv 2303.01469), theorem 5 and 6; eqs. 1.16-1.22 and 1.25 of the
    lecture notes "Faster Sampling".
    """

    teacher: Teacher | None = None

    @property
    def declares(self) -> Declares:
        taught = () if self.teacher is None else ("teacher",)
        return Declares((JUMP,), (*taught, "current"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        v = row.v
        if self.teacher is not None:
            v = stop(self.teacher.velocity(row.x_s, row.s, row.cond))
        jump, tangent = jump_and_tangent(model, row, v)
        return jump - stop(jump - tangent)


def jump_and_tangent(
    flow_map: FlowMap, row: Row, v: Float[Array, "*shape"], step: float | None = None
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`F(x_s, s, t)` and `dF/ds = v - V + (t - s) DV_ds` along the flow, from one pass, or with a
    central difference over `step`."""
    derivative = rules.derivative(step, row.s - flow_map.path.t_min)
    V, DV_ds = rules.eulerian(flow_map, row.x_s, row.s, row.t, v, row.cond, derivative)
    gap = row.t - row.s
    return row.x_s + gap * V, v - V + gap * DV_ds


class VelocityTangent(Term):
    """`V - sg[v + (t - s) DV_ds]`, the limit of `VelocityJump` at small gaps: GCM, eq. 6."""

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        V, DV_ds = rules.eulerian(model, row.x_s, row.s, row.t, row.v, row.cond)
        return V - stop(row.v + (row.t - row.s) * DV_ds)


@dataclass(frozen=True)
class TangentPlugin(WeightedPlugin):
    """Continuous-time consistency, without a step."""

    time_std: float = by_kind(1.0, points=0.0, small_image=0.0)


@register
class CCT(TangentPlugin):
    """Continuous-time consistency training: no teacher, no step, unbiased."""

    card = Card(
        "cct",
        rule="Eulerian, t = 0",
        supervision="sampled pair",
        source="arXiv 2303.01469",
        cost=4,
        whole_cost=4,
        parameterisation="F",
        gradient="F",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.214, 0.18, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 1.49, 1.37, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip

    conditioning: float = by_kind(0.0, small_image=3.5)

    def jump(self, teacher: None) -> Term:
        return TangentJump(teacher)


@register
class CCD(TangentPlugin):
    """Continuous-time consistency distillation: the tangent along the teacher's flow."""

    card = Card(
        "ccd",
        rule="Eulerian, t = 0",
        supervision="teacher",
        source="arXiv 2303.01469",
        cost=5,
        whole_cost=5,
        parameterisation="F",
        gradient="F",
        targets="teacher, current",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.157, 0.119, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.903, 1.13, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    needs_teacher = True
    guidable = True

    def jump(self, teacher: Teacher) -> Term:
        return TangentJump(teacher)
