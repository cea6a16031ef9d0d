"""GCM: consistency training with its parts apart, for one or for all target times.

    R = V(x_s, s, t) - sg[v + (t - u) (V(x_s, s, t) - V(x_u, u, t)) / (s - u)],
    L = E w(s) / p(s | t) |R|,   u = s - h(s),   h(s) = 0.005 e^(-3.5 s),   w(s) = s e^(-6 s)

`t = 0` (CU, `gcm-cu`), or from a distribution that favours the data end (VU, `gcm-vu`). The network
receives `c(s) = (e^(3.5 s) - 1) / (e^3.5 - 1)`, for which neighbours are equally far apart
everywhere. With `--plugin.group 2` or more the loss is moment matching over groups of rows
(`moments.py`).
"""

import abc
from dataclasses import dataclass, replace
from typing import Literal, Self

from core.errors import pick, require
from core.flow.flow_map import Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.nets.scaled import ScaledNetwork
from core.objectives.objective import GroupTerm, Term
from core.objectives.weights import Norm, Squared, Weight
from core.times.distributions import Cosh, Point, Sine, TimeDistribution, Uniform, UniformPower
from core.times.pairs import TargetThenSource, TimeSampler
from core.times.steps import STEPS, ExponentialStep, Step, with_mean_gap
from core.times.weights import Importance, Product, TimeWeight
from plugins.consistency.base import WeightedPlugin
from plugins.consistency.jump import SameNoise, VelocityJump
from plugins.consistency.moments import TimeAware, VelocityMoments
from plugins.consistency.tangent import VelocityTangent

DISTRIBUTIONS: dict[str, TimeDistribution] = {"uniform": Uniform(), "sine": Sine(), "cosh": Cosh()}


@dataclass(frozen=True)
class GCMPlugin(WeightedPlugin):
    """A Guide to Training Consistency Models: every part a flag."""

    shape: str = "exponential"
    """Shape of the step: constant, edm, ect, imm, linear-decrease, quadratic-decrease,
    cubic-decrease, quadratic-increase, quadratic-concave, quadratic-convex, exponential."""
    mean_gap: float = 0.00138
    """Mean of the step over all times."""
    rate: float = 3.5
    """Rate mu of the exponential step e^(-mu s)."""
    derivative: Literal["difference", "exact"] = "difference"
    """The quotient over the step, or its limit by a Jacobian-vector product."""
    conditioning: float = 3.5
    weighting: Literal["gamma", "one"] = "gamma"
    source_law: Literal["uniform", "sine", "cosh"] = by_kind("sine", small_image="uniform")
    """Distribution of s between t and 1; its density is divided out of the weight."""
    ends: tuple[float, float] | None = None
    """a and b of that distribution, sine or cosh of a y + b (1 - y): by default 1 and 0.01 for the
    sine, 1.5 and 0 for cosh."""
    data_std: float = 0.0
    """Scale in- and output of the network for data of this standard deviation (c_in and c_out); 0:
    the data are taken as they are."""
    metric: Literal["norm", "squared"] = "norm"
    """Distance of the residual."""
    group: int = 1
    """Rows that are compared with one another by moment matching; 1: each by itself."""
    bandwidth: float = 0.1
    """Width in time of the moment matching's kernel."""
    printed: bool = False
    """The kernel as the paper prints it, for which the exact map is not quite stationary."""

    def __post_init__(self):
        super().__post_init__()
        gap = self.mean_gap
        require(0 < gap < 0.1, f"--plugin.mean-gap must be between 0 and 0.1, got {gap}")
        std = self.data_std
        require(0 <= std < 1e6, f"--plugin.data-std must be 0 or a deviation, got {std}")
        require(self.group >= 1, f"--plugin.group must be at least 1, got {self.group}")
        require(self.bandwidth > 0, f"--plugin.bandwidth must be positive, got {self.bandwidth}")
        pick(STEPS, self.shape, "step")
        require(self.rate > 0, f"--plugin.rate must be positive, got {self.rate}")
        a, b = self.ends or (1.0, 0.0)
        require(
            0 <= b < a <= 2,
            f"--plugin.ends must be a and b with 0 <= b < a <= 2, got {a:g} {b:g}",
        )

    @classmethod
    def variants(cls) -> dict[str, Self]:
        base = cls.preset("points")
        return {
            "": base,
            "exact": replace(base, derivative="exact"),
            "moments": replace(base, group=4),
        }

    def jump(self, teacher: None) -> Term | GroupTerm:
        if self.group > 1:
            kernel = TimeAware(self.bandwidth, symmetric=not self.printed)
            return VelocityMoments(neighbour=SameNoise(), kernel=kernel, size=self.group)
        return VelocityTangent() if self.derivative == "exact" else VelocityJump(SameNoise())

    def around(self, net: Network, path: Interpolant) -> Network:
        warped = super().around(net, path)
        return ScaledNetwork(warped, gaussian(path), self.data_std) if self.data_std else warped

    def step_function(self) -> Step:
        step = pick(STEPS, self.shape, "step")
        if isinstance(step, ExponentialStep):
            step = replace(step, rate=self.rate)
        return with_mean_gap(step, self.mean_gap)

    @abc.abstractmethod
    def target_distribution(self) -> TimeDistribution:
        """The distribution of the target time."""

    def jump_times(self) -> TimeSampler:
        return TargetThenSource(self.target_distribution(), self.source_distribution())

    def source_distribution(self) -> TimeDistribution:
        """The distribution of the place of `s` between `t` and 1."""
        chosen = DISTRIBUTIONS[self.source_law]
        if self.ends is None or isinstance(chosen, Uniform):
            return chosen
        return replace(chosen, a=self.ends[0], b=self.ends[1])

    def factor(self) -> TimeWeight:
        shape = super().factor()
        if self.source_law == "uniform":
            return shape
        return Product((shape, Importance(self.source_distribution())))

    def distance(self) -> Weight:
        return Norm(self.reduce) if self.metric == "norm" else Squared(self.reduce)


@register
class GCMConstant(GCMPlugin):
    """GCM with a constant upper limit: all jumps end at the data."""

    card = Card(
        "gcm-cu",
        rule="Eulerian, t = 0",
        supervision="sampled pair, vanishing bias",
        source="A Guide to Training Consistency Models",
        cost=4,
        whole_cost=4,
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.206, 0.131, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.584, 0.461, "recipes-digits"),
    )  # fmt: skip

    def target_distribution(self) -> TimeDistribution:
        return Point(0.0)


@register
class GCMVariable(GCMPlugin):
    """GCM with a variable upper limit: jumps to any time, mostly near the data."""

    card = Card(
        "gcm-vu",
        rule="Eulerian",
        supervision="sampled pair, vanishing bias",
        source="A Guide to Training Consistency Models",
        cost=4,
        whole_cost=4,
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.213, 0.141, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.426, 0.369, "recipes-digits"),
    )  # fmt: skip
    to_data = False

    target_power: int = 4
    """Power of the distribution of the target time: the higher, the nearer to the data."""

    def target_distribution(self) -> TimeDistribution:
        return UniformPower(self.target_power)
