"""Shortcut models: a jump of size 2h equals two of size h, on dyadic sizes.

    L = E |V(x_s, s, s - 2h) - sg[(V_ema(x_s, s, s - h) + V_ema(x', s - h, s - 2h)) / 2]|^2
        + E |V(x_s, s, s) - v|^2,          x' = x_s - h V_ema(x_s, s, s - h)

The halves of the smallest jump are Euler steps along the diagonal, which grounds the ladder; the
official code trains a smallest size in the diagonal's place instead.
"""

from typing import Any, Self

from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Term
from core.times.pairs import DyadicJumps, TimeSampler
from plugins.compositional.halves import TwoHalves


@register
class Shortcut(RowPlugin):
    """Shortcut models (arXiv 2410.12557): dyadic self-consistency from data, no teacher."""

    card = Card(
        "shortcut",
        rule="compositional, midpoint",
        supervision="own two half jumps (EMA)",
        source="arXiv 2410.12557",
        cost=3.25,
        whole_cost=8,
        seed_cost=8,
    )

    diagonal: float = by_kind(0.875, points=0.5, small_image=0.5)
    full: float = 0.0
    uniform: float = 0.0
    time_std: float = by_kind(1.0, points=0.0)
    sizes: int = 8
    """Number of jump sizes 1, 1/2, 1/4, ...: 8 makes 1/128 the smallest."""
    grounded: bool = True
    """Take the halves of the smallest jump as Euler steps along the diagonal."""
    target_decay: float = by_kind(0.999, points=0.95, small_image=0.95)
    """Decay of the EMA that the targets use; 0 for the current parameters."""

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"": cls(time_std=0.0, grounded=False)}

    def jump(self, teacher: None) -> Term:
        return TwoHalves(2.0 ** (1 - self.sizes) if self.grounded else 0.0)

    def jump_times(self) -> TimeSampler:
        return DyadicJumps(self.sizes)

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}
