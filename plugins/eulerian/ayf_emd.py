"""Align Your Flow: the Eulerian rule along the teacher, everything but the value stopped.

    g = (v_teacher - V) + r (t - s) DV_ds,      L = E |V - sg[V + g / (|g| + 0.1)]|^2

with `r` warmed up from 0 to `--plugin.warm-to`; `r < 1` adds `(1 - r)(v_teacher - V)`, a pull to
the straight path. At `t = s` it is flow matching, at `t = 0` a continuous consistency model.
"""

from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Term
from core.objectives.row import Row
from core.objectives.weights import Reduce, TangentNorm, Weight
from core.times.distributions import LogitNormal
from core.times.pairs import Gap, TimeSampler


class AlignedTangent(Term):
    """`V - sg[V + g]`; the weight `TangentNorm` normalises `g`. Source: AYF, theorem 2.2, eq. 8."""

    teacher: Teacher
    warm_to: float = 0.99
    warm_until: float = 0.1

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        v = self.teacher.velocity(row.x_s, row.s, row.cond)
        V, DV_ds = rules.eulerian(model, row.x_s, row.s, row.t, v, row.cond)
        r = self.warm_to * jnp.minimum(row.progress / self.warm_until, 1.0)
        return V - jax.lax.stop_gradient(v + r * (row.t - row.s) * DV_ds)


@register
class AYFEMD(RowPlugin):
    """Align Your Flow (arXiv 2506.14603): stopped Eulerian distillation with a warm-up."""

    card = Card(
        "ayf-emd",
        family="Eulerian",
        rule="Eulerian",
        supervision="teacher",
        source="arXiv 2506.14603",
        cost=5,
        whole_cost=5,
        seed_cost=6,
    )
    needs_teacher = True

    time_mean: float = -0.8
    """Mean of the logit-normal gap s - t."""
    warm_to: float = 0.99
    """Factor r of the derivative after the warm-up."""
    warm_until: float = 0.1
    """Fraction of the training over which r rises."""
    constant: float = 0.1
    """Constant c of the normalised tangent g / (|g| + c)."""
    reduce: Reduce = "mean"

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"": cls(uniform=1.0, warm_to=1.0)}

    def jump(self, teacher: Teacher) -> Term:
        return AlignedTangent(teacher, self.warm_to, self.warm_until)

    def weight(self) -> Weight:
        return TangentNorm(self.constant, self.reduce)

    def jump_times(self) -> TimeSampler:
        return Gap(LogitNormal(self.time_mean, self.time_std))
