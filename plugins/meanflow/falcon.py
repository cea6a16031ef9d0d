"""FALCON: MeanFlow in both directions, and a cycle that holds the map to be its own inverse.

    L = L_mf + lambda E |x_s - F(F(x_s, s, t), t, s)|^2

A Boltzmann generator needs the density of what the map draws, and that needs a map without folds.
Nothing is stopped in the cycle, which is zero at every exact map, and at `F = x` too: it never
stands alone.
"""

from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import require
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
from plugins.meanflow.mf import MeanFlowJump


class Cycle(Term):
    """`sqrt(strength) (F(F(x_s, s, t), t, s) - x_s)` from the fraction `begin` of training on."""

    strength: float = 0.1
    begin: float = 0.5

    @property
    def declares(self) -> Declares:
        return Declares((EVERYTHING,), ())

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        there = model(row.x_s, row.s, row.t, row.cond)
        back = model(there, row.t, row.s, row.cond)
        begun = jnp.where(row.progress >= self.begin, jnp.sqrt(self.strength), 0.0)
        return begun * (back - row.x_s)


@register
class Falcon(RowPlugin):
    """FALCON (arXiv 2512.09914): a map both ways that is invertible, for exact densities."""

    card = Card(
        "falcon",
        rule="Eulerian, and a cycle",
        supervision="sampled pair",
        source="arXiv 2512.09914",
        cost=3.75,
        whole_cost=4,
        seed_cost=4,
        gradient="V, everything",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.223, 0.184, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 1.01, 0.562, "recipes-digits"),
    )  # fmt: skip
    both_ways = True

    diagonal: float = by_kind(0.5, points=0.5)
    both: float = 0.5
    cycle: float = 0.25
    """Share of the jump rows that are cycles."""
    cycle_strength: float = 0.1
    """Factor lambda of the cycle's loss."""
    cycle_begin: float = 0.5
    """Fraction of the training from which on the cycle counts."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("cycle", "cycle_begin"):
            value = getattr(self, name)
            flag = f"--plugin.{name.replace('_', '-')}"
            require(0 <= value <= 1, f"{flag} must be in [0, 1], got {value}")
        require(
            0 <= self.cycle_strength < float("inf"),
            f"--plugin.cycle-strength must be 0 or more, got {self.cycle_strength}",
        )

    def jump(self, teacher: None) -> Term:
        return MeanFlowJump()

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        diagonal, jump = super().kinds(teacher, task)
        cycle = replace(
            jump,
            name="cycle",
            share=self.cycle * jump.share,
            term=Cycle(self.cycle_strength, self.cycle_begin),
        )
        return diagonal, replace(jump, share=(1 - self.cycle) * jump.share), cycle
