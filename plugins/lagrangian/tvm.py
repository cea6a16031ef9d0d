"""Terminal velocity matching: LSD with an EMA of the map in the target.

    L = E |dF/dt(x_s, s, t) - sg[V_ema(F(x_s, s, t), t, t)]|^2 + E |V(x_s', s', s') - v|^2

The gradient flows through `dF/dt`. The second term has its own times; half of the rows each.
"""

from typing import Any

from core.errors import require
from core.flow.flow_map import FlowMap, Network
from core.flow.interpolant import Interpolant
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.nets.scaled import GuidanceScaled
from core.objectives.objective import Term
from core.objectives.weights import Reduce
from core.times.distributions import LogitNormal
from core.times.pairs import TimeSampler, TruncatedGap
from plugins.lagrangian.lsd import LagrangianJump
from plugins.lagrangian.noise import from_noise


@register
class TVM(RowPlugin):
    """Terminal velocity matching (arXiv 2511.19797): from data, with an EMA target."""

    card = Card(
        "tvm",
        family="Lagrangian",
        rule="Lagrangian",
        supervision="EMA of the own diagonal",
        source="arXiv 2511.19797",
        cost=5,
        whole_cost=10,
        seed_cost=10,
        gradient="dF/dt",
        targets="current, EMA",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.174, 0.171, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.412, 0.312, "recipes-digits"),
    )  # fmt: skip
    both_ways = True

    diagonal: float = 0.5
    reduce: Reduce = "mean"
    gap_mean: float = -0.8
    """Mean of the logit-normal gap s - t."""
    gap_std: float = 1.0
    """Standard deviation of the logit-normal gap."""
    target_decay: float = 0.99
    """Decay of the EMA that the targets use; 0 for the current parameters."""
    scaled: bool = False
    """The network's output times the guidance scale is V, as in the paper; it goes with
    --plugin.guidance.even."""

    def __post_init__(self):
        super().__post_init__()
        require(
            self.guidance.on or not self.scaled,
            "--plugin.scaled multiplies by the guidance scale: set --plugin.guidance.scale, or "
            "leave it out",
        )

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        if self.scaled:
            net = GuidanceScaled(net, None if self.guidance.most else self.guidance.learned)
        return super().flow_map(net, path)

    def jump(self, teacher: None) -> Term:
        return LagrangianJump()

    def whole_jumps(self) -> TimeSampler:
        return from_noise()

    def jump_times(self) -> TimeSampler:
        return TruncatedGap(
            LogitNormal(self.gap_mean, self.gap_std), self.time_mean, self.time_std or 1.0
        )

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}
