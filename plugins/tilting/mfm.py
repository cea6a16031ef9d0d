"""Meta flow maps: one network for the flow map of every posterior `p(x_0 | x_t)`.

    L = E |V(y_s, s, s | x, t) - v|^2 + E |W(y_s, s, u | x, t) - v|^2

`x` at time `t` and `y_s` are noised from the same clean example with independent noises, and `v` is
the velocity of the pair behind `y_s`; `W` is that of `jump.py` with `(x, t)` held fixed. At the
minimum `X(y, 1, 0 | x, t)` is a draw of `p(x_0 | x_t = x)`, of Gaussian data
`D(x, t) + Sigma_t^(1/2) y`. Without an observation, in a tenth of the rows, it is an ordinary flow
map, and sampled like one.

The sources distil a teacher at image scale (Eulerian, or Lagrangian self-distillation); here it
learns from data alone, and the weight is the plain one of this project's recipes.
"""

import dataclasses
from typing import Any

from core.errors import require
from core.flow.interpolant import Interpolant
from core.flow.posterior import States
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Term
from core.objectives.rows import RowObjective
from plugins.tilting.jump import OwnTangentJump


@register
class MFM(RowPlugin):
    """Meta flow maps (arXiv 2601.14430): one-step draws of every posterior, from data."""

    card = Card(
        "mfm",
        rule="Eulerian",
        supervision="sampled pair and a second noising of its example",
        source="arXiv 2601.14430",
        cost=4,
        parameterisation="V given a state",
    )
    guidable = False

    diagonal: float = 0.5
    nothing: float = 0.1
    """Share of the rows that receive no state: these train ordinary sampling."""
    least: float = 0.01
    """Least time of the observed states, above 0."""

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.nothing <= 1, f"--plugin.nothing must be in [0, 1], got {self.nothing}")
        require(0 < self.least < 1, f"--plugin.least must be in (0, 1), got {self.least}")

    def net_flags(self, flags: Any) -> Any:
        known = hasattr(flags, "state")
        require(known, "mfm's network takes a state as an input: choose --net mlp, dit or unet")
        return dataclasses.replace(flags, state=True)

    def jump(self, teacher: None) -> Term:
        return OwnTangentJump()

    def row_objective(self, path: Interpolant, teacher: Teacher | None, task: Task) -> RowObjective:
        objective = super().row_objective(path, teacher, task)
        return dataclasses.replace(objective, states=States(self.nothing, self.least))
