"""The plugin that methods of tokens are: cross-entropy on the diagonal, jumps in warped time."""

import abc
import math
from dataclasses import dataclass

from jaxtyping import Array, Key

from core.errors import require
from core.flow.categorical import CategoricalMap
from core.flow.flow_map import FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Teacher
from core.methods.plugin import Method, Plugin, Task
from core.objectives.categorical import CrossEntropy
from core.objectives.log_weight import log_weight
from core.objectives.objective import RowKind, Term
from core.objectives.rows import LOG_WEIGHT, RowObjective
from core.objectives.weights import Adaptive, Squared, Timed, Weight
from core.overriding import overridable
from core.times.distributions import Point, TimeDistribution, Uniform
from core.times.pairs import Diagonal, Mixture, OrderedPair
from core.times.warp import Warp, Warped
from core.times.weights import Even

HALF = Even(0.5)
"""Half of the square of a residual has the gradient of the cross-entropy."""


@dataclass(frozen=True)
class CategoricalPlugin(Plugin):
    """A method of tokens: rows of the diagonal, and jump rows whose residual is `jump`."""

    tokens = True

    diagonal: float = 0.75
    """Share of rows with s = t (cross-entropy of the clean symbols)."""
    full: float = 0.0
    """Share of the jump rows that train the whole jump s = 1, t = 0 of one-step sampling."""
    warped: bool = True
    """Draw times evenly in the warped time, in which symbols are lost at an even rate, and tell the
    network that time; otherwise in plain time."""
    mix: float = 0.1
    """Share of plain time in the warped one."""
    power: float = 0.0
    """Power p of the adaptive weight 1 / (|R|^2 + c)^p of the jump rows; 0 is the plain loss."""
    constant: float = 1e-6
    """Constant c of the adaptive weight."""
    learned_weight: bool = False
    """Learn a weight of each pair of times, so that all count alike."""
    label_drop: float = 0.1
    """Probability with which a label is replaced by the null class."""

    def __post_init__(self):
        for name in ("diagonal", "full", "mix", "label_drop"):
            share, flag = getattr(self, name), f"--plugin.{name.replace('_', '-')}"
            require(0 <= share <= 1, f"{flag} must be in [0, 1], got {share}")
        for name in ("power", "constant"):
            value = getattr(self, name)
            wanted = f"--plugin.{name} must be 0 or more, and finite, got {value}"
            require(0 <= value < math.inf, wanted)

    @abc.abstractmethod
    def jump(self) -> Term:
        """The residual of the jump rows."""

    @overridable
    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        return self.token_map(net, path)

    def token_map(self, net: Network, path: Interpolant) -> CategoricalMap:
        """The map whose logits are the network's output, in the plugin's time."""
        return CategoricalMap(net=net, path=gaussian(path), clock=self.warp, scaled=True)

    @overridable
    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        return Method(
            flow_map=self.flow_map(net, path),
            objective=self.row_objective(path, task),
            players={LOG_WEIGHT: log_weight(key)} if self.learned_weight else {},
        )

    def row_objective(self, path: Interpolant, task: Task) -> RowObjective:
        """The objective of both kinds of rows. Raises `UserError` where the data are no tokens."""
        require(
            task.kind == "tokens" and len(task.shape) == 2,
            f"{self.card.name} is for tokens, such as --data text; these data are {task.kind}",
        )
        kinds = self.kinds(task.shape[-1])
        return RowObjective(path, kinds, task.num_classes, self.label_drop, task.steps)

    @overridable
    def kinds(self, symbols: int) -> tuple[RowKind, ...]:
        """The kinds of rows: diagonal and jump, with the shares of the flags."""
        times, cross = self.distribution(symbols), Timed(HALF, Squared("positions"))
        pairs, share = OrderedPair(times, times), 1 - self.diagonal
        if self.full:
            whole = OrderedPair(Point(1.0), Point(0.0))
            pairs = Mixture((whole, pairs), (self.full, 1 - self.full))
        return (
            RowKind("diagonal", self.diagonal, Diagonal(times), CrossEntropy(), cross),
            RowKind("jump", share, pairs, self.jump(), self.weight()),
        )

    @overridable
    def weight(self) -> Weight:
        """The weight of the jump rows."""
        return Timed(HALF, Adaptive(self.power, self.constant, "positions"))

    @property
    def warp(self) -> Warp | None:
        """The warped time, or None in plain time."""
        return Warp(self.mix) if self.warped else None

    def distribution(self, symbols: int) -> TimeDistribution:
        """The distribution of one time."""
        return Uniform() if self.warp is None else Warped(symbols, self.warp)
