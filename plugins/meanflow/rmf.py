"""Rectified MeanFlow: MeanFlow on pairs of noise and its end under a teacher's ODE.

    x_0 = ODE_teacher(z),      L = E w |V(x_s, s, t) - sg[v + (t - s) (dV/ds + grad V . v)]|^2

Trajectories of the pairs hardly cross, so the pair's velocity is nearly the marginal one and the
target has little variance. The data end is the teacher's distribution, not the data's.
"""

from typing import Self

from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.reflow import PairsPlugin
from core.methods.registry import register
from core.objectives.objective import Term
from plugins.meanflow.mf import MeanFlowJump


@register
class RMF(PairsPlugin):
    """Rectified MeanFlow (arXiv 2511.23342): one round of reflow, then MeanFlow on its pairs."""

    card = Card(
        "rmf",
        rule="Eulerian",
        supervision="teacher's pairs",
        source="arXiv 2511.23342",
        cost=3.75,
        whole_cost=4,
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.142, 0.14, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.207, 0.199, "recipes-digits"),
    )  # fmt: skip

    diagonal: float = by_kind(0.25, points=0.5, small_image=0.5)
    power: float = by_kind(0.5, points=0.0, small_image=0.0)
    discard: float = 0.1

    @classmethod
    def whole(cls) -> Self:
        return cls(diagonal=0.0)

    def jump(self, teacher: Teacher) -> Term:
        return MeanFlowJump()
