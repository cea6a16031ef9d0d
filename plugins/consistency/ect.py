"""Easy consistency tuning: the gap shrinks in stages, from all the way to the data.

    L = E w |F(x_s, s, 0) - sg[F(x_u, u, 0)]|,
    sigma_u = sigma_s [1 - base^-(j + 1) (1 + 8 sigmoid(-sigma_s))]_+   at stage j

While `u = 0` the target is the clean example itself, so the first stage is diffusion training. It
goes on from a trained run with `--init runs/fm-...`, or starts from scratch.
"""

from typing import Literal

from core.errors import require
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.objective import Term
from core.objectives.weights import Norm, PseudoHuber, Weight
from core.times.steps import Step, TuningStep
from core.times.weights import EdmWeight, PerNoiseGap, TimeWeight
from plugins.consistency.base import ConsistencyPlugin
from plugins.consistency.jump import ConsistencyJump, SameNoise

MOST = 80.0
"""The noise-to-signal ratio from which the paper samples, for which `s = 1` stands."""


@register
class ECT(ConsistencyPlugin):
    """Easy consistency tuning (arXiv 2406.14548): from a diffusion model to a consistency model."""

    card = Card(
        "ect",
        rule="Eulerian, t = 0",
        supervision="sampled pair, vanishing bias",
        source="arXiv 2406.14548",
        cost=4,
        whole_cost=4,
        parameterisation="F",
        gradient="F",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.196, 0.135, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 1.14, 1.12, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    spaces = True

    base: float = 2.0
    """Factor by which each stage divides the gap; 256 with one stage: the paper's one-hour
    recipe."""
    stages: int = by_kind(8, points=6, small_image=6)
    """Stages, equally long."""
    weighting: Literal["gap", "edm"] = "gap"
    """1 / (sigma_s - sigma_u), or EDM's weight for standard deviation 0.5."""
    huber: float = 0.0
    """Constant of the pseudo-Huber distance; 0 takes the norm."""
    time_mean: float = -1.1
    """Mean of the log noise-to-signal ratio."""
    time_std: float = 2.0
    """Standard deviation of the log noise-to-signal ratio; 0 means uniform times."""

    def __post_init__(self):
        super().__post_init__()
        require(self.base > 1, f"--plugin.base must be above 1, got {self.base}")
        require(self.stages >= 1, f"--plugin.stages must be at least 1, got {self.stages}")

    def jump(self, teacher: None) -> Term:
        return ConsistencyJump(SameNoise())

    def step_function(self) -> Step:
        return TuningStep(1 / self.base, self.stages, most=MOST)

    def factor(self) -> TimeWeight:
        return PerNoiseGap(MOST) if self.weighting == "gap" else EdmWeight()

    def distance(self) -> Weight:
        return PseudoHuber(self.huber, self.reduce) if self.huber else Norm(self.reduce)
