"""Align Your Flow: the Eulerian rule along the teacher, everything but the value stopped.

    g = (v_teacher - V) + r (t - s) DV_ds,      L = E |V - sg[V + g / (|g| + 0.1)]|^2

with `r` warmed up from 0 to `--plugin.warm-to`; `r < 1` adds `(1 - r)(v_teacher - V)`, a pull to
the straight path. At `t = s` it is flow matching, at `t = 0` a continuous consistency model.
`ayf-emd-scratch` has no teacher: the velocity is the map's own, `sg[V(x_s, s, s)]`, which flow
matching on diagonal rows trains.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import VALUE, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.row import Row
from core.objectives.weights import Adaptive, Reduce, TangentNorm, Timed, Weight
from core.times.distributions import LogitNormal, MixedDistribution, TimeDistribution, Uniform
from core.times.pairs import Gap, TimeSampler
from core.times.weights import GammaWeight


class AlignedTangent(Term):
    """`V - sg[V + g]`; the weight `TangentNorm` normalises `g`. Source: AYF, theorem 2.2, eq. 8.

    Without a teacher the velocity is the map's own diagonal, that of the parameters of targets.
    """

    teacher: Teacher | None
    warm_to: float = 0.99
    warm_until: float = 0.1

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("target" if self.teacher is None else "teacher", "current"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        field = target if self.teacher is None else self.teacher
        v = jax.lax.stop_gradient(field.velocity(row.x_s, row.s, row.cond))
        V, DV_ds = rules.eulerian(model, row.x_s, row.s, row.t, v, row.cond)
        r = self.warm_to * jnp.minimum(row.progress / self.warm_until, 1.0)
        return V - jax.lax.stop_gradient(v + r * (row.t - row.s) * DV_ds)


@dataclass(frozen=True)
class AlignedPlugin(RowPlugin):
    """Align Your Flow's tangent, warm-up and times."""

    time_mean: float = -0.8
    """Mean of the logit-normal gap s - t."""
    warm_to: float = 0.99
    """Factor r of the derivative after the warm-up."""
    warm_until: float = 0.1
    """Fraction of the training over which r rises."""
    constant: float = 0.1
    """Constant c of the normalised tangent g / (|g| + c)."""
    weighting: Literal["one", "gamma"] = by_kind("one", points="gamma", small_image="gamma")
    """Weight of a row by its time: none, or s e^(-6 s), with which rows near the data count most. A
    normalised tangent is as long where it means little."""
    reduce: Reduce = "mean"

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"": cls(uniform=1.0, warm_to=1.0)}

    def term(self, teacher: Teacher | None) -> Term:
        """The residual of the jump rows."""
        return AlignedTangent(teacher, self.warm_to, self.warm_until)

    def weight(self) -> Weight:
        norm = TangentNorm(self.constant, self.reduce)
        return Timed(GammaWeight(), norm) if self.weighting == "gamma" else norm

    def jump_times(self) -> TimeSampler:
        return Gap(LogitNormal(self.time_mean, self.time_std))


@register
class AYFEMD(AlignedPlugin):
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
        targets="teacher, current",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.155, 0.139, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.232, 0.19, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    needs_teacher = True

    def jump(self, teacher: Teacher) -> Term:
        return self.term(teacher)


@register
class AYFScratch(AlignedPlugin):
    """Align Your Flow's tangent along the map's own diagonal: from data, no teacher."""

    card = Card(
        "ayf-emd-scratch",
        family="Eulerian",
        rule="Eulerian",
        supervision="own diagonal",
        source="arXiv 2506.14603; self-distillation: arXiv 2505.18825",
        cost=3.5,
        whole_cost=5,
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.237, 0.182, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.649, 0.295, "recipes-digits"),
    )  # fmt: skip

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    target_decay: float = 0.0
    """Decay of an EMA whose diagonal is the velocity; 0 takes the current parameters."""

    @classmethod
    def whole(cls) -> Self:
        return cls(diagonal=0.0)

    def jump(self, teacher: None) -> Term:
        return self.term(teacher)

    def diagonal_distribution(self) -> TimeDistribution:
        """Flow matching's own times: those of the flags are of the gap."""
        return MixedDistribution((Uniform(), LogitNormal()), (self.uniform, 1 - self.uniform))

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        """The diagonal is plain flow matching: what the tangent's weight would do to it is a bias,
        since its residual is noise."""
        diagonal, jump = super().kinds(teacher, task)
        return replace(diagonal, weight=Adaptive(self.power, reduce=self.reduce)), jump
