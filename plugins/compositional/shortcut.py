"""Shortcut models: a jump of size 2h equals two of size h, on dyadic sizes.

    L = E |V(x_s, s, s - 2h) - sg[(V_ema(x_s, s, s - h) + V_ema(x', s - h, s - 2h)) / 2]|^2
        + E |V(x_s, s, s) - v|^2,          x' = x_s - h V_ema(x_s, s, s - h)

The halves of the smallest jump are Euler steps along the diagonal, which grounds the ladder; the
official code trains a smallest size in the diagonal's place instead. There they may be guided
(`--plugin.bootstrap-scale`), and clipped, as in that code.
"""

from dataclasses import replace
from typing import Any, Self

from core.errors import require
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import RowKind, Term
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
        targets="EMA",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 0.201, 0.179, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 0.484, 0.305, "compare-digits"),
    )  # fmt: skip
    spaces = True

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
    bootstrap_scale: float = 1.0
    """Guide the halves of the smallest jumps by this scale, from where all others learn it; the
    official code has 1.5. Needs labels, and --plugin.grounded."""
    clip: float = 0.0
    """Keep the middle and the target of two halves in [-clip, clip]; the official code has 4, for
    latents of deviation 1. 0: as they are."""

    def __post_init__(self):
        super().__post_init__()
        scale, clip = self.bootstrap_scale, self.clip
        require(scale >= 1, f"--plugin.bootstrap-scale must be at least 1, got {scale}")
        require(clip >= 0, f"--plugin.clip must not be negative, got {clip}")
        require(
            scale == 1 or (self.grounded and not self.guidance.on),
            "--plugin.bootstrap-scale guides the smallest jumps: it needs --plugin.grounded, and "
            "no --plugin.guidance beside it",
        )

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"": cls(time_std=0.0, grounded=False)}

    def jump(self, teacher: None) -> Term:
        return TwoHalves(2.0 ** (1 - self.sizes) if self.grounded else 0.0, clip=self.clip)

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        kinds = super().kinds(teacher, task)
        if self.bootstrap_scale == 1:
            return kinds
        require(task.num_classes > 0, "--plugin.bootstrap-scale needs data with labels")
        require(self.label_drop > 0, "--plugin.bootstrap-scale needs --plugin.label-drop, say 0.1")
        term = replace(self.jump(None), scale=self.bootstrap_scale, null=task.num_classes)
        return tuple(replace(k, term=term) if k.name == "jump" else k for k in kinds)

    def jump_times(self) -> TimeSampler:
        return DyadicJumps(self.sizes)

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}
