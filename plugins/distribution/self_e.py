"""Self-E: a map learns from data, and from what it says itself of its samples with noise.

    x      = x_0 predicted by V(x_s, s, t)
    x_self = sg[x - (D(x_t; null) - D(x_t; c))],      x_t = alpha x + sigma z' at the target time
    L      = E |V - v of the clean example (x_0 + l x_self) / (1 + l)|^2,     l = eta_s - eta_t

`D(.; c)` is the denoiser that the map's own diagonal is for the label, `D(.; null)` that without
one; their difference is the classifier's score `grad log p(c | x_t)`, up to a factor. `eta` is the
noise-to-signal ratio. No teacher, no second network, no derivative.
"""

import dataclasses
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import require
from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import RowKind, Term
from core.objectives.row import Row
from core.times.pairs import SourceThenTarget, TimeSampler

stop = jax.lax.stop_gradient


class SelfEvaluation(Term):
    """`V - sg[v_goal]`, with the velocity that has the clean example `goal` at `(x_s, s)`.

    `goal` is between `x_0` and `x_self`; `normalise` gives it the norm of `x_0`. Without a label
    `x_self = x`, and what is left is the data's residual `V - v` over `1 + l`. Source: Self-E
    (arXiv 2512.22374), eqs. 14 and 17 to 20, with the weight `1 / t^2` of its appendix.
    """

    biased = True

    null: int = 0
    normalise: bool = False

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        path = gaussian(model.path)
        V = model.average_velocity(row.x_s, row.s, row.t, row.cond)
        x = convert(path, V, row.x_s, row.s, source="velocity", target="x_0")
        goal = row.x_0 + self.share(row) * (self.evaluated(model, x, row) - row.x_0)
        if self.normalise:
            goal *= jnp.linalg.norm(row.x_0) / jnp.maximum(jnp.linalg.norm(goal), 1e-6)
        steep = path.determinant(row.s) / jnp.maximum(path.sigma(row.s), 1e-6)
        return V - stop(row.v + steep * (row.x_0 - goal))

    def evaluated(
        self, model: FlowMap, x: Float[Array, "*shape"], row: Row
    ) -> Float[Array, "*shape"]:
        """`x_self`: the sample `x`, moved by the classifier's score at its target time."""
        if row.cond is None or row.cond.label is None:
            return x
        path, null = gaussian(model.path), Condition(label=jnp.asarray(self.null))
        x_t = path.interpolate(x, path.noise(row.key, x.shape), row.t)
        apart = model.velocity(x_t, row.t, null) - model.velocity(x_t, row.t, row.cond)
        return x + path.sigma(row.t) / path.determinant(row.t) * apart

    def share(self, row: Row) -> Float[Array, ""]:
        """`l / (1 + l)`, which is 0 on the diagonal and 1 at pure noise, where `l` is infinite."""
        s, t = row.unit.s, row.unit.t
        return (s - t) / jnp.maximum((1 - s) * (1 - t) + s - t, 1e-12)


@register
class SelfE(RowPlugin):
    """Self-E (arXiv 2512.22374): any number of steps from data with labels, without a teacher.

    Its jumps are none of the flow map: between the data and the classifier they rest where the
    samples fit their label, so the checks show the exact map's residual and refuse nothing. At
    `t = 0` the score is zero: the last jump is a denoiser's, and one evaluation blurs. Here both
    denoisers are the map's current ones; the paper takes the one with the label from an EMA, and in
    the end adds a fake score by a label of its own.
    """

    card = Card(
        "self-e",
        rule="none (self-evaluation)",
        supervision="sampled pair, own classifier score",
        source="arXiv 2512.22374",
        cost=4,
        whole_cost=5,
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 1.41, 0.436, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 7.04, 1.68, "recipes-digits"),
    )  # fmt: skip
    guidable = False
    labelled = True
    any_times = True

    diagonal: float = 0.5
    full: float = 0.0
    uniform: float = 0.0
    time_mean: float = 0.0
    label_drop: float = 0.1
    normalise: bool = by_kind(True, points=False)
    """Give the goal the norm of the clean example, against colours that saturate."""
    grow: float = 0.42

    def __post_init__(self):
        super().__post_init__()
        why = "self-e compares with the null class, which --plugin.label-drop trains"
        require(self.label_drop > 0, f"{why}: it must be above 0")

    @classmethod
    def variants(cls) -> dict[str, Self]:
        plain = cls.preset("points")
        return {"": plain, "normalised": dataclasses.replace(plain, normalise=True)}

    @classmethod
    def whole(cls) -> Self:
        return cls(diagonal=0.0)

    def jump(self, teacher: None) -> Term:
        return SelfEvaluation(normalise=self.normalise)

    def kinds(self, teacher: Teacher | None, task: Task) -> tuple[RowKind, ...]:
        diagonal, jump = super().kinds(teacher, task)
        term = SelfEvaluation(task.num_classes, self.normalise)
        return diagonal, dataclasses.replace(jump, term=term)

    def jump_times(self) -> TimeSampler:
        return SourceThenTarget(self.distribution())
