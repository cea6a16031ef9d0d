"""Flow map matching: learns the two-way map by differentiating its inverse at a data point.

    y = F(x_s, s, t)
    L = E |d/ds' F(y, t, s') at s' = s  -  v|^2 + E |F(y, t, s) - x_s|^2

Both orders of `s` and `t`; no gradient is stopped. The gap grows during training, since the loss
is known to work for limited gaps only.
"""

from dataclasses import replace
from typing import Self

from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import EVERYTHING, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.row import Row
from core.times.pairs import EitherOrder


class InverseMatching(Term):
    """`(dF/ds'(y, t, s') - v, F(y, t, s) - x_s)`. Source: arXiv 2406.07507, proposition 3.9."""

    @property
    def declares(self) -> Declares:
        return Declares((EVERYTHING, EVERYTHING), ())

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        del target
        y = model(row.x_s, row.s, row.t, row.cond)
        V, dV = rules.lagrangian(model, y, row.t, row.s, row.cond)
        back = row.s - row.t
        return V + back * dV - row.v, y + back * V - row.x_s


@register
class FMM(RowPlugin):
    """Flow map matching (arXiv 2406.07507): the two-way map from data, for limited gaps."""

    card = Card(
        "fmm",
        rule="compositional, inverse",
        supervision="sampled pair",
        source="arXiv 2406.07507",
        cost=6,
        whole_cost=9,
        seed_cost=9,
        gradient="everything",
        targets="none",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 1.28, 0.183, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 4.09, 0.308, "compare-digits"),
    )  # fmt: skip

    diagonal: float = 0.5
    uniform: float = by_kind(1.0, small_image=0.3)
    window: float = 0.05
    """Widest gap at the start of training, in unit time; it grows to 1."""

    @classmethod
    def whole(cls) -> Self:
        return cls(diagonal=0.0)

    def jump(self, teacher: None) -> Term:
        return InverseMatching()

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        diagonal, jump = super().kinds(teacher, task)
        return diagonal, replace(jump, times=EitherOrder(jump.times, self.window))
