"""SoFlow: a finite step of the Eulerian rule along the sampled pair, which shrinks, no derivative.

    l = s + rho (t - s),   x_l = x_s + (l - s) v,   Q = [F(x_s, s, t) - F(x_l, l, t)] / (s - l)
    L = E |V(x_s, s, t) - sg[V + Q]|^2 + flow matching on the other rows

`Q` tends to `DF_ds`, with a bias O(rho) since the velocity is the pair's: a consistency training
with two times. The gradient is that of the inner product `-<V, sg[Q]>` of the paper.
"""

import dataclasses
from typing import Literal, Self

import jax
from jaxtyping import Array, Float

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
from core.objectives.weights import Reduce
from core.times.distributions import LogitNormal
from core.times.pairs import Capped, TimeSampler
from core.times.steps import Step


class SolutionJump(Term):
    """`V - sg[V + Q]` with `Q = v - V_l - (V - V_l) / rho`, which no small gap divides.

    `rho` falls exponentially from `start` to `end`. Source: SoFlow (arXiv 2512.15657), section 3.
    """

    start: float = 0.1
    end: float = 0.002

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("current", "target"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        rho = self.ratio(row.progress)
        later = row.s + rho * (row.t - row.s)
        x_l = row.x_s + (later - row.s) * row.v
        with full_products():
            V = model.average_velocity(row.x_s, row.s, row.t, row.cond)
            V_l = target.average_velocity(x_l, later, row.t, row.cond)
        Q = row.v - V_l - (V - V_l) / rho
        return V - jax.lax.stop_gradient(V + Q)

    def ratio(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """`rho` at that fraction of the training."""
        return self.start * (self.end / self.start) ** progress

    def amplification(self, step: Step | None) -> float:
        return 1 / self.end

    @property
    def order(self) -> int:
        return 1

    def with_step(self, step: float) -> Term:
        return dataclasses.replace(self, start=step, end=step)


class SolutionTangent(Term):
    """The limit of `SolutionJump` at small steps, `V - sg[v + (1 - rho) (t - s) DV_ds]`.

    With the factor `1 - rho` it agrees with it to first order, and at `rho = 1` altogether. It
    takes an exact derivative, which low precision does not hurt.
    """

    jump: SolutionJump

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        V, DV_ds = rules.eulerian(model, row.x_s, row.s, row.t, row.v, row.cond)
        kept = 1 - self.jump.ratio(row.progress)
        return V - jax.lax.stop_gradient(row.v + kept * (row.t - row.s) * DV_ds)

    @property
    def order(self) -> int:
        return 1

    def with_step(self, step: float) -> Term:
        return SolutionTangent(dataclasses.replace(self.jump, start=step, end=step))


@register
class SoFlow(RowPlugin):
    """Solution flow models (arXiv 2512.15657): from data, without derivatives."""

    card = Card(
        "soflow",
        family="Eulerian",
        rule="Eulerian",
        supervision="sampled pair",
        source="arXiv 2512.15657",
        cost=3.25,
        whole_cost=7,
        seed_cost=7,
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.216, 0.175, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.363, 0.281, "compare-digits"),
    )  # fmt: skip
    both_ways = True

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    time_mean: float = -0.2
    """Mean of the diagonal's logit-normal times."""
    start: float = 0.1
    """Step ratio rho at the start of training."""
    end: float = 0.002
    """Step ratio rho at the end of training."""
    derivative: Literal["difference", "exact"] = "difference"
    """The quotient over the step, or its limit by a Jacobian-vector product, for bfloat16."""
    power: float = by_kind(1.0, points=0.0, small_image=0.0)
    reduce: Reduce = "mean"

    @classmethod
    def variants(cls) -> dict[str, Self]:
        plain = cls.preset("points")
        return {"": plain, "exact": dataclasses.replace(plain, derivative="exact")}

    def jump(self, teacher: None) -> Term:
        jump = SolutionJump(self.start, self.end)
        return SolutionTangent(jump) if self.derivative == "exact" else jump

    def jump_times(self) -> TimeSampler:
        return Capped(LogitNormal(0.2, 0.8), LogitNormal(-1.0, 0.8))
