"""MeanFlow: the Eulerian identity with the conditional velocity in place of the marginal one.

    L = E w |V(x_s, s, t) - sg[v + (t - s) (dV/ds + grad V . v)]|^2

One `jvp` with tangent `(v, 1, 0)`, stopped. At the true map the residual is `grad F (v_marginal
- v)`: zero in the mean, not per example. In a space that is not flat the first `v` is
`source_pull(x_s, (t - s) V, v)`.
"""

import dataclasses
from typing import Literal, Self

import jax
from jaxtyping import Array, Float

from core.errors import require
from core.flow import rules
from core.flow.flow_map import FlowMap
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.guidance import GuidanceConfig
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.steps import Step


class MeanFlowJump(Term):
    """`V - sg[v + (t - s) DV_ds]`. Source: MeanFlow, eqs. 9-11.

    `step` takes a central difference in the place of the exact derivative.
    """

    step: float | None = None

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        derivative = rules.derivative(self.step, row.s - model.path.t_min)
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, row.v, row.cond, derivative)
        gap = row.t - row.s
        v = model.path.space.source_pull(row.x_s, gap * V, row.v)
        return V - jax.lax.stop_gradient(v + gap * dV_ds)

    def amplification(self, step: Step | None) -> float:
        return 1.0 if self.step is None else 0.25 / self.step

    @property
    def order(self) -> int | None:
        return None if self.step is None else 2


@register
class MF(RowPlugin):
    """MeanFlow (arXiv 2505.13447): average velocity from data, one network, no teacher."""

    card = Card(
        "mf",
        rule="Eulerian",
        supervision="sampled pair",
        source="arXiv 2505.13447",
        cost=3.25,
        whole_cost=4,
        seed_cost=4,
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.215, 0.173, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.4,   0.283, "compare-digits"),
    )  # fmt: skip
    both_ways = True
    couples = True
    spaces = True

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    power: float = by_kind(1.0, points=0.0, small_image=0.0)
    derivative: Literal["exact", "difference"] = "exact"
    """An exact Jacobian-vector product, or a central difference over --plugin.step, for networks
    that have no forward mode."""
    step: float = 5e-3
    """Step of the difference in time."""

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.step < 0.1, f"--plugin.step must be in (0, 0.1), got {self.step}")

    @classmethod
    def whole(cls) -> Self:
        return cls(diagonal=0.0)

    @classmethod
    def variants(cls) -> dict[str, Self]:
        plain, guidance = cls.preset("points"), GuidanceConfig(scale=2.5, own=0.5)
        return {"": plain, "guided": dataclasses.replace(plain, guidance=guidance)}

    def jump(self, teacher: None) -> Term:
        return MeanFlowJump(self.step if self.derivative == "difference" else None)
