"""Progressive self-distillation: a jump equals the two jumps that divide it anywhere.

    u = g s + (1 - g) t
    L = E |V(x_s, s, t) - sg[(1 - g) V(x_s, s, u) + g V(F(x_s, s, u), u, t)]|^2
        + E |V(x_s, s, s) - v|^2

`g` is uniform (PSD-U) or 1/2 (PSD-M). The targets use the current parameters, or an EMA. In a space
that is not flat the mean of the two velocities is the `join` of the two jumps over `t - s`.
"""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import VALUE, Declares
from core.objectives.objective import Term
from core.objectives.row import Row


class SplitJump(Term):
    """`V(x_s, s, t) - sg[two jumps]`, divided at random or in the middle.

    One encoding of `(x_s, s)` serves both times. `ema`: the two jumps are the target's, which
    encodes itself. Source: arXiv 2505.18825, PSD loss.
    """

    midpoint: bool = False
    ema: bool = eqx.field(static=True, default=False)

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), ("target",) if self.ema else ("current",))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        uniform = jr.uniform(row.key, (), row.s.dtype)
        fraction = jnp.full_like(row.s, 0.5) if self.midpoint else uniform
        encoding = model.encode(row.x_s, row.s, row.cond)
        two = rules.compositional(
            target if self.ema else model,
            row.x_s,
            row.s,
            row.t,
            fraction,
            row.cond,
            encoding=None if self.ema else encoding,
        )
        return model.decode(encoding, row.t) - jax.lax.stop_gradient(two)


@register
class PSD(RowPlugin):
    """Progressive self-distillation (arXiv 2505.18825): from data, no teacher, no derivative."""

    card = Card(
        "psd",
        rule="compositional",
        supervision="own two jumps",
        source="arXiv 2505.18825",
        cost=3.5,
        whole_cost=8,
        seed_cost=8,
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.205, 0.179, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.404, 0.268, "compare-digits"),
    )  # fmt: skip
    both_ways = True
    couples = True
    spaces = True

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    uniform: float = by_kind(1.0, small_image=0.3)
    learned_weight: bool = by_kind(True, points=False, small_image=False)
    midpoint: bool = False
    """Divide every jump in the middle (PSD-M) instead of anywhere (PSD-U)."""
    target_decay: float = 0.0
    """Decay of an EMA whose jumps are the target; 0 takes the current parameters."""

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"uniform": cls(uniform=1.0), "midpoint": cls(uniform=1.0, midpoint=True)}

    def jump(self, teacher: None) -> Term:
        return SplitJump(self.midpoint, ema=self.target_decay > 0)

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}
