"""Eulerian self-distillation: EMD whose teacher is the map's own diagonal.

    L = E |V(x_s, s, s) - v|^2 + E |dF/ds + sg[grad F . V(x_s, s, s)]|^2

The velocity is stopped, and in the paper the spatial derivative too, so that the gradient flows
through `dF/ds`; with both derivatives live, as in EMD, short trainings on images do far better.
"""

import dataclasses
from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import START_RATE, VELOCITY, Carrier, Declares
from core.objectives.objective import Players, Residuals, RowKind, Term
from core.objectives.row import Row
from core.times.distributions import Point, Uniform
from core.times.pairs import OrderedPair, TimeSampler

stop = jax.lax.stop_gradient


class EulerianJump(Term):
    """`dF/ds + sg[grad F . v]` with `v = sg[V(x_s, s, s)]`. Source: arXiv 2505.18825, ESD loss.

    With `shared` also `V(x_s, s, s) - v_pair`, whose evaluation then serves both residuals. `ema`:
    `v` is the diagonal of the target. Without `stopped` the gradient flows through `grad F` too.
    """

    shared: bool = False
    ema: bool = eqx.field(static=True, default=False)
    stopped: bool = eqx.field(static=True, default=True)

    @property
    def declares(self) -> Declares:
        own = START_RATE if self.stopped else Carrier("DF/ds")
        carriers = (own, VELOCITY) if self.shared else (own,)
        return Declares(carriers, ("current", "target") if self.ema else ("current",))

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> Float[Array, "*shape"] | tuple[Float[Array, "*shape"], ...]:
        gap, velocity = row.t - row.s, model.velocity(row.x_s, row.s, row.cond)
        v = stop(target.velocity(row.x_s, row.s, row.cond) if self.ema else velocity)
        V, dV_ds, along_v = rules.eulerian_parts(model, row.x_s, row.s, row.t, v, row.cond)
        moved = gap * along_v
        jump = gap * dV_ds - V + v + (stop(moved) if self.stopped else moved)
        return (jump, velocity - row.v) if self.shared else jump

    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        """Where both derivatives are live: the one of `F` along a velocity that is a number."""
        if self.stopped:
            return super().declared(live, fixed, target, row)
        model = live["model"]
        v = (target if self.ema else fixed)["model"].velocity(row.x_s, row.s, row.cond)

        def F(x: Array, s: Array) -> Array:
            return model(x, s, row.t, row.cond)

        jump = jax.jvp(F, (row.x_s, row.s), (v, jnp.ones_like(row.s)))[1]
        diagonal = model.velocity(row.x_s, row.s, row.cond) - row.v
        return (jump, diagonal) if self.shared else (jump,)


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
        Recipe("points", "checkerboard", 3000, 0.191, 0.189, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.471, 0.395, "recipes-digits", {"optim.rate": 2e-3}),
    )  # fmt: skip
    both_ways = True

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    uniform: float = by_kind(1.0, small_image=0.3)
    learned_weight: bool = by_kind(True, points=False, small_image=False)
    stopped: bool = by_kind(True, small_image=False)
    """Stop the gradient through the spatial derivative, as the paper does; without, as in emd, a
    jump costs half as much again."""
    shared: bool = False
    """Every row carries both terms at one x_s, so that they share the velocity; no split."""
    target_decay: float = 0.0
    """Decay of an EMA whose diagonal is the velocity; 0 takes the current parameters."""

    @classmethod
    def variants(cls) -> dict[str, Self]:
        base = cls.preset("points")
        return {"": base, "everything": dataclasses.replace(base, stopped=False)}

    @classmethod
    def whole(cls) -> Self:
        return cls(shared=True)

    def jump(self, teacher: None) -> Term:
        return EulerianJump(self.shared, self.target_decay > 0, self.stopped)

    def whole_jumps(self) -> TimeSampler:
        """From every `s` to the data: the residual is the slope of the jump in `s`, so that a row
        at `s = 1` trains one end of the jump from noise."""
        return OrderedPair(Uniform(), Point(0.0))

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        if not self.shared:
            return super().kinds(teacher, task)
        return (RowKind("both", 1.0, self.jump_mixture(), self.jump(teacher), self.weight()),)
