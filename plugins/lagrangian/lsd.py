"""Lagrangian self-distillation: LMD whose teacher is the map's own diagonal.

    L = E |V(x_s, s, s) - v|^2 + E |dF/dt(x_s, s, t) - sg[V(F(x_s, s, t), t, t)]|^2

The gradient flows through the derivative `dF/dt`, not into the target. In a space that is not flat
both are tangent at `x_s`: `d/dt (t - s) V`, and the velocity at `F` by `target_pull`.
"""

from typing import Any

import jax
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import END_RATE, Declares
from core.objectives.objective import Term
from core.objectives.row import Row
from core.times.pairs import TimeSampler
from plugins.lagrangian.noise import from_noise


class LagrangianJump(Term):
    """`dF/dt - sg[V_target(F, t, t)]`. Source: Boffi et al. (arXiv 2505.18825), LSD loss; TVM."""

    @property
    def declares(self) -> Declares:
        return Declares((END_RATE,), ("current", "target"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        gap = row.t - row.s
        V, dV_dt = rules.lagrangian(model, row.x_s, row.s, row.t, row.cond)
        space, u = model.path.space, gap * V
        end = target.velocity(space.exp(row.x_s, u), row.t, row.cond)
        return V + gap * dV_dt - jax.lax.stop_gradient(space.target_pull(row.x_s, u, end))


@register
class LSD(RowPlugin):
    """Lagrangian self-distillation (arXiv 2505.18825): from data, no teacher."""

    card = Card(
        "lsd",
        family="Lagrangian",
        rule="Lagrangian",
        supervision="own diagonal",
        source="arXiv 2505.18825",
        cost=4,
        whole_cost=10,
        seed_cost=10,
        gradient="dF/dt",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.175, 0.175, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.403, 0.32, "recipes-digits"),
    )  # fmt: skip
    both_ways = True
    couples = True
    spaces = True

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    uniform: float = by_kind(1.0, small_image=0.3)
    learned_weight: bool = by_kind(True, points=False, small_image=False)
    target_decay: float = 0.0
    """Decay of an EMA that the targets use, as in tvm; 0 takes the current parameters."""

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}

    def jump(self, teacher: None) -> Term:
        return LagrangianJump()

    def whole_jumps(self) -> TimeSampler:
        return from_noise()
