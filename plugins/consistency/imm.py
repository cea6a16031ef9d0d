"""Inductive moment matching: groups of jumps match in distribution those from a neighbouring time.

    L = E w(s) mean_jk [k(A_j, A_k) + k(B_j, B_k) - 2 k(A_j, B_k)],
    A = F(x_s, s, t),   B = sg[F(x_u, u, t)],   k(x, y) = exp(-|x - y| / (d |s - t|))

The rows of a group share `s`, `u` and `t`; `x_s` and `x_u` of a row lie on the line of its own
pair. Equality holds in distribution only, so the expected update of the exact map vanishes with the
step and, at a fixed step, as groups grow.

Times are in `[low, high]`, as in the paper, whose sampler starts and ends there. Here samplers go
from 1 to 0, and the network is asked for the nearest time inside.
"""

from core.errors import require
from core.flow.flow_map import FORMS, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.objective import GroupTerm
from core.times.distributions import Uniform
from core.times.pairs import Shared, SourceThenTarget, TimeSampler
from core.times.steps import RatioStep, Step
from core.times.weights import ImmWeight, TimeWeight
from plugins.consistency.base import ConsistencyPlugin
from plugins.consistency.jump import SameNoise
from plugins.consistency.moments import JumpMoments, Laplace


@register
class IMM(ConsistencyPlugin):
    """Inductive moment matching (arXiv 2503.07565): jumps to any time, no teacher."""

    card = Card(
        "imm",
        rule="Eulerian, in distribution",
        supervision="sampled pair, vanishing bias",
        source="arXiv 2503.07565",
        cost=4,
        whole_cost=4,
        parameterisation="F",
        gradient="F",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.202, 0.204, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.422, 0.289, "recipes-digits"),
    )  # fmt: skip
    sampler = "pushforward"
    to_data = False

    group: int = 4
    """Rows that share their times and are compared with one another."""
    exponent: int = by_kind(12, points=10, small_image=10)
    """The step lowers the noise-to-signal ratio by 160 / 2^exponent."""
    a: float = 1.0
    """Power of alpha in the weight."""
    b: float = 5.0
    """Shift of the weight's sigmoid in log-SNR."""
    low: float = 0.006
    """Least time of training, at the data end. Samplers ask the network for none below."""
    high: float = 0.994
    """Largest time of training, at the noise end. Samplers ask the network for none above."""

    def __post_init__(self):
        super().__post_init__()
        require(self.group >= 1, f"--plugin.group must be at least 1, got {self.group}")
        require(8 <= self.exponent <= 20, f"--plugin.exponent is 8 to 20, got {self.exponent}")
        require(
            0 <= self.low < self.high <= 1, "--plugin.low and --plugin.high: 0 <= low < high <= 1"
        )

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        return FORMS[self.form](net=net, path=gaussian(path), interval=(self.low, self.high))

    def jump(self, teacher: None) -> GroupTerm:
        return JumpMoments(neighbour=SameNoise(), kernel=Laplace(), size=self.group)

    def step_function(self) -> Step:
        return RatioStep(160 / 2**self.exponent)

    def jump_times(self) -> TimeSampler:
        pair = SourceThenTarget(Uniform(self.low, self.high), low=self.low)
        return Shared(pair, self.group)

    def factor(self) -> TimeWeight:
        return ImmWeight(self.a, self.b)
