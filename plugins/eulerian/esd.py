"""Eulerian self-distillation: EMD whose teacher is the map's own diagonal.

    L = E |V(x_s, s, s) - v|^2 + E |dF/ds + sg[grad F . V(x_s, s, s)]|^2

The spatial derivative and the velocity are stopped; the gradient flows through `dF/ds`.
"""

from typing import Any, Self

import equinox as eqx
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
from core.objectives.carriers import START_RATE, VELOCITY, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.row import Row

stop = jax.lax.stop_gradient


class EulerianJump(Term):
    """`dF/ds + sg[grad F . v]` with `v = sg[V(x_s, s, s)]`. Source: arXiv 2505.18825, ESD loss.

    With `shared` also `V(x_s, s, s) - v_pair`, whose evaluation then serves both residuals. `ema`:
    `v` is the diagonal of the target.
    """

    shared: bool = False
    ema: bool = eqx.field(static=True, default=False)

    @property
    def declares(self) -> Declares:
        carriers = (START_RATE, VELOCITY) if self.shared else (START_RATE,)
        return Declares(carriers, ("current", "target") if self.ema else ("current",))

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> Float[Array, "*shape"] | tuple[Float[Array, "*shape"], ...]:
        gap, velocity = row.t - row.s, model.velocity(row.x_s, row.s, row.cond)
        v = stop(target.velocity(row.x_s, row.s, row.cond) if self.ema else velocity)
        V, dV_ds, along_v = rules.eulerian_parts(model, row.x_s, row.s, row.t, v, row.cond)
        jump = gap * dV_ds - V + stop(v + gap * along_v)
        return (jump, velocity - row.v) if self.shared else jump


@register
class ESD(RowPlugin):
    """Eulerian self-distillation (arXiv 2505.18825): from data, no teacher."""

    card = Card(
        "esd",
        family="Eulerian",
        rule="Eulerian",
        supervision="own diagonal",
        source="arXiv 2505.18825",
        cost=4.25,
        whole_cost=10,
        seed_cost=10,
        gradient="dF/ds",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.191,  0.189, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 10.5, 1.61, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    both_ways = True

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    uniform: float = by_kind(1.0, small_image=0.3)
    power: float = by_kind(0.0, small_image=1.0)
    constant: float = by_kind(0.01, small_image=30.0)
    grow: float = by_kind(0.0, small_image=0.5)
    shared: bool = False
    """Every row carries both terms at one x_s, so that they share the velocity; no split."""
    target_decay: float = 0.0
    """Decay of an EMA whose diagonal is the velocity; 0 takes the current parameters."""

    @classmethod
    def whole(cls) -> Self:
        return cls(shared=True)

    def jump(self, teacher: None) -> Term:
        return EulerianJump(self.shared, ema=self.target_decay > 0)

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        if not self.shared:
            return super().kinds(teacher, task)
        return (RowKind("both", 1.0, self.jump_mixture(), self.jump(teacher), self.weight()),)
