"""Riemannian consistency: jumps to the data end, in any space, from the velocity of the pair.

    L = E ((1 - s) / s)^2 |f - sg[f - df/ds]|^2,    f(x_s, s) = exp_x_s(-s V(x_s, s, 0)),
    df/ds = D_x f [v] + d_s f,    |df/ds| at most 10

The total derivative runs along the curve of the pair through `exp` itself, so that curvature is in
it: the sum of covariant derivatives of the paper, by one Jacobian-vector product. Its "simplified"
form leaves the curvature out, and has another fixed point. In flat space this is `cct` with its own
weight. It learns no velocity, and jumps to no other time.

This is the paper's consistency training: the velocity of the pair stands for the teacher's, and is
the same in the mean, since the derivative is linear in it; where the derivative is shortened it is
not. The weight keeps its value below `s = 0.005`, the least time of the source.
"""

from dataclasses import dataclass
from typing import Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import require
from core.flow.flow_map import FlowMap
from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.carriers import JUMP, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.unit import Times
from core.times.weights import TimeWeight
from plugins.consistency.base import ConsistencyPlugin
from plugins.consistency.jump import stop

LEAST_TIME = 0.005


class CurvedTangent(Term):
    """`f - sg[f - df/ds]`, whose square has the gradient of `2 <f, sg[df/ds]>`.

    The derivative is shortened to `most`, if that is not 0. Source: Riemannian consistency models
    (arXiv 2510.00983), the continuous-time loss; its code has the same number.
    """

    most: float = 0.0

    @property
    def declares(self) -> Declares:
        return Declares((JUMP,), ("current",))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        jump, slope = jax.jvp(
            lambda x, s: model(x, s, row.t, row.cond),
            (row.x_s, row.s),
            (row.v, jnp.ones_like(row.s)),
        )
        if self.most:
            square = jnp.sum(slope**2)
            slope = slope * jnp.minimum(1.0, self.most / jnp.sqrt(jnp.maximum(square, 1e-12)))
        return jump - stop(jump - slope)


class SignalToNoise(TimeWeight):
    """`((1 - s) / s)^2`, constant below the floor of `s`."""

    floor: float = LEAST_TIME

    def __call__(self, times: Times) -> Float[Array, ""]:
        s = jnp.maximum(times.s, self.floor)
        return ((1 - s) / s) ** 2


@register
@dataclass(frozen=True)
class RCM(ConsistencyPlugin):
    """Riemannian consistency (arXiv 2510.00983): jumps to the data end on any manifold."""

    card = Card(
        "rcm",
        rule="Eulerian, t = 0",
        supervision="sampled pair",
        source="arXiv 2510.00983",
        cost=4,
        whole_cost=4,
        parameterisation="F",
        gradient="F",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.345, 0.175, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 1.95, 1.33, "recipes-digits"),
    )  # fmt: skip
    spaces = True

    time_std: float = 0.0
    most: float = 10.0
    """Length to which the derivative of the jump is shortened; 0 leaves it as it is."""

    def __post_init__(self):
        super().__post_init__()
        require(self.most >= 0, f"--plugin.most must be 0 or more, got {self.most}")

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"": cls(label_drop=0.1, most=0.0)}

    def jump(self, teacher: None) -> Term:
        return CurvedTangent(self.most)

    def factor(self) -> TimeWeight:
        return SignalToNoise()
