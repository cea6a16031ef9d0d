"""The plugin that consistency models are: jumps to the data end, or to any time."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from core.errors import require
from core.flow.flow_map import DataEndMap, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.row_plugin import RowPlugin
from core.nets.warped import WarpedTimes
from core.objectives.weights import Timed, Weight
from core.overriding import overridable
from core.times.distributions import Point
from core.times.pairs import GridSource, OrderedPair, TimeSampler
from core.times.steps import GridStep, NodeGrid, Step
from core.times.weights import Even, GammaWeight, PerGap, PerNoiseGap, TimeWeight


@dataclass(frozen=True)
class ConsistencyPlugin(RowPlugin):
    """Jumps to the data end: neither the velocity nor a jump to another time is learned."""

    sampler = "restart"
    guidable = False
    to_data: ClassVar[bool] = True

    full: float = 0.0
    uniform: float = 0.0

    @overridable
    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        flow_map = super().flow_map(net, path)
        return DataEndMap.of(flow_map) if self.to_data else flow_map

    @overridable
    def jump_times(self) -> TimeSampler:
        return OrderedPair(self.distribution(), Point(0.0))

    def weight(self) -> Weight:
        return Timed(self.factor(), self.distance())

    @overridable
    def distance(self) -> Weight:
        """The weight of a residual; the adaptive square of the flags."""
        return super().weight()

    @overridable
    def factor(self) -> TimeWeight:
        """How much a row counts by its times."""
        return Even()


@dataclass(frozen=True)
class WeightedPlugin(ConsistencyPlugin):
    """A consistency model whose rows have GCM's weight in time, or none."""

    weighting: Literal["gamma", "one"] = by_kind("one", points="gamma", small_image="gamma")
    """Weight in time: s^gamma e^(-decay s), or none. All jumps are learned from the shortest ones,
    so that rows near the data should count most."""
    gamma: float = 1.0
    """Power gamma of the weight in time."""
    decay: float = 6.0
    """Rate lambda with which the weight in time decays towards the noise."""
    conditioning: float = 0.0
    """Rate of the time that the network receives, as in GCM; 0 gives it the time as it is, as a run
    of other methods has it whose weights this one is to start from."""

    def __post_init__(self):
        super().__post_init__()
        require(self.gamma >= 0, f"--plugin.gamma must not be negative, got {self.gamma}")
        rate = self.conditioning
        require(0 <= rate <= 20, f"--plugin.conditioning must be from 0 to 20, got {rate}")

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        return super().flow_map(self.around(net, path), path)

    @overridable
    def around(self, net: Network, path: Interpolant) -> Network:
        """The network with its times on another scale."""
        del path
        return WarpedTimes(net, self.conditioning) if self.conditioning else net

    @overridable
    def factor(self) -> TimeWeight:
        return GammaWeight(self.gamma, self.decay) if self.weighting == "gamma" else Even()


def check_intervals(first: int, last: int) -> None:
    """Raises `UserError` unless a grid can grow from the one to the other number of intervals."""
    require(
        1 <= first <= last, f"--plugin.first {first} and --plugin.last {last}: 1 <= first <= last"
    )


@dataclass(frozen=True)
class GridPlugin(ConsistencyPlugin):
    """A consistency model on the nodes of a grid that is refined during training."""

    power: float = by_kind(0.0, points=0.5)
    constant: float = by_kind(0.01, points=1e-3)
    first: int = 10
    """Intervals of the grid at the start of training."""
    last: int = by_kind(150, points=40, small_image=80)
    """Intervals of the grid at the end of training."""
    rho: float = by_kind(7.0, points=0.0)
    """Exponent of the grid, EDM's; 0 spaces the nodes evenly in time."""
    gap_power: float = by_kind(0.0, points=2.0, small_image=1.0)
    """Divide the loss of two neighbours by this power of their gap: 0 as in CT, 1 as in iCT; a
    higher one holds the data end firmly, from where everything else is learned."""
    gap: Literal["time", "ratio"] = by_kind("time", small_image="ratio")
    """The gap in unit time, or of noise-to-signal ratios, as in iCT: that grows towards the noise,
    so that rows near the data count most."""

    target_decay: float = 0.0
    """Decay of an EMA that the targets use; 0 takes the current parameters."""

    def __post_init__(self):
        super().__post_init__()
        check_intervals(self.first, self.last)

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}

    def grid(self) -> NodeGrid:
        """The nodes."""
        return NodeGrid(self.first, self.last, self.rho)

    def step_function(self) -> Step:
        return GridStep(self.grid())

    def jump_times(self) -> TimeSampler:
        return GridSource(self.grid())

    def factor(self) -> TimeWeight:
        if not self.gap_power:
            return Even()
        if self.gap == "time":
            return PerGap(self.gap_power)
        return PerNoiseGap(self.grid().top, self.gap_power)
