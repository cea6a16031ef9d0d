"""AlphaFlow: from flow matching along the whole jump to MeanFlow, annealed during training.

    R = [V(x_s, s, t) - alpha v - (1 - alpha) V(x_u, u, t)] / alpha,
    u = s + alpha (t - s),   x_u = x_s + (u - s) v,   L = E w |V - sg[V - R]|^2

`alpha` falls from 1 to `--plugin.least` on a sigmoid of the training's progress. At `alpha = 1` the
residual is `V - v`; as `alpha -> 0` it tends to MeanFlow's, with an error of O(alpha). No
derivative is taken, so that one program serves the whole training; `--plugin.derivative exact`
takes one, `R = V - v - (1 - alpha) (t - s) DV_ds`, for networks in bfloat16.
"""

import dataclasses
from typing import Literal, Self

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import require
from core.flow import rules
from core.flow.flow_map import FlowMap
from core.flow.rules import full_products
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import VALUE, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.steps import Step

stop = jax.lax.stop_gradient


class AlphaJump(Term):
    """`V - sg[V - R]`, with `alpha = 1 - sigmoid(sharpness (progress - 1/2))`, or `step`.

    The paper weighs `|alpha R|^2` by `alpha / (mean |alpha R|^2 + 1e-3)`; dividing the residual
    itself keeps its size, and that of its gradient, the same at every `alpha`. Source: AlphaFlow
    (arXiv 2510.20771), eq. 9.
    """

    sharpness: float = 25.0
    least: float = 0.005
    step: float | None = None

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("current", "target"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        alpha = self.alpha(row.progress)
        u = row.s + alpha * (row.t - row.s)
        x_u = row.x_s + (u - row.s) * row.v
        with full_products():
            V = model.average_velocity(row.x_s, row.s, row.t, row.cond)
            near = target.average_velocity(x_u, u, row.t, row.cond)
        residual = (V - near) / alpha + near - row.v
        return V - stop(V - residual)

    def alpha(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """The share of the jump that the pair's velocity is trusted for."""
        if self.step is not None:
            return jnp.full_like(progress, self.step)
        falling = 1 - jax.nn.sigmoid(self.sharpness * (progress - 0.5))
        return jnp.clip(falling, self.least, 1.0)

    def amplification(self, step: Step | None) -> float:
        return 1 / (self.least if self.step is None else self.step)

    @property
    def order(self) -> int:
        return 1


class AlphaTangent(Term):
    """`V - sg[v + (1 - alpha) (t - s) DV_ds]`: `AlphaJump` to first order in `alpha`, and at
    `alpha = 1` altogether, by an exact derivative.

    The authors' code goes over to MeanFlow's derivative once `alpha` is below 0.005.
    """

    jump: AlphaJump

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        V, DV_ds = rules.eulerian(model, row.x_s, row.s, row.t, row.v, row.cond)
        kept = 1 - self.jump.alpha(row.progress)
        return V - stop(row.v + kept * (row.t - row.s) * DV_ds)

    @property
    def order(self) -> int:
        return 1

    def with_step(self, step: float) -> Term:
        return AlphaTangent(dataclasses.replace(self.jump, step=step))


@register
class AlphaFlow(RowPlugin):
    """AlphaFlow (arXiv 2510.20771): a curriculum from flow matching to MeanFlow."""

    card = Card(
        "alphaflow",
        rule="Eulerian",
        supervision="sampled pair, vanishing bias",
        source="arXiv 2510.20771",
        cost=3.5,
        whole_cost=4,
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.282, 0.174, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.491, 0.191, "recipes-digits"),
    )  # fmt: skip
    both_ways = True

    diagonal: float = 0.5
    power: float = by_kind(1.0, points=0.0, small_image=0.0)
    sharpness: float = 25.0
    """How steeply alpha falls, in units of the whole training."""
    least: float = 0.005
    """Alpha at the end of training."""
    derivative: Literal["difference", "exact"] = "difference"
    """The quotient over the step, or its limit by a Jacobian-vector product, for bfloat16."""

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.least <= 1, f"--plugin.least must be in (0, 1], got {self.least}")

    @classmethod
    def variants(cls) -> dict[str, Self]:
        plain = cls.preset("points")
        return {"": plain, "exact": dataclasses.replace(plain, derivative="exact")}

    def jump(self, teacher: None) -> Term:
        jump = AlphaJump(self.sharpness, self.least)
        return AlphaTangent(jump) if self.derivative == "exact" else jump

    @classmethod
    def whole(cls):
        return cls(diagonal=0.0)
