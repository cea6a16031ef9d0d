"""The plugin that most methods are: diagonal rows, jump rows, and flags for both.

A method of this kind gives the residual of its jump rows in `jump` and, where its times differ from
the common ones, overrides `jump_times`. Everything else here is common to the methods.
"""

import abc
import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Array, Key

from core.errors import UserError, require
from core.flow.flow_map import FORMS, AverageVelocityMap, FlowMap, Form, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Teacher
from core.methods.plugin import Method, Plugin, Task
from core.methods.presets import by_kind
from core.objectives.guidance import GuidanceConfig, Guide
from core.objectives.log_weight import log_weight
from core.objectives.objective import FlowMatching, GroupTerm, RowKind, TeacherMatching, Term
from core.objectives.rows import LOG_WEIGHT, RowObjective
from core.objectives.weights import Adaptive, Reduce, Weight
from core.overriding import overridable
from core.times.distributions import (
    LogitNormal,
    MixedDistribution,
    Point,
    TimeDistribution,
    Uniform,
)
from core.times.measured import measured
from core.times.pairs import BothWays, Diagonal, Growing, Mixture, OrderedPair, TimeSampler
from core.times.steps import Step


@dataclass(frozen=True)
class RowPlugin(Plugin):
    """A method with diagonal rows (`s = t`) and jump rows; see `jump`."""

    sampler: ClassVar[str] = "pushforward"
    guidable: ClassVar[bool] = True
    """Whether guidance can be learned: the pair's velocity is all that the method takes from it."""
    both_ways: ClassVar[bool] = False
    """Whether its jump rows may go towards noise too, as the oracle shows."""
    any_times: ClassVar[bool] = False
    """Whether jump rows take any s > t, so that jumps may grow; those of `both_ways` do."""

    diagonal: float = 0.0
    """Share of rows with s = t (plain flow matching)."""
    full: float = by_kind(0.0, small_image=0.25)
    """Share of the jump rows that train the whole jump s = 1, t = 0 of one-step sampling; methods
    that regress the slope of the jump in t take all of its way, from s = 1 to any t."""
    uniform: float = by_kind(0.0, points=1.0, small_image=0.3)
    """Share of the jump rows with uniform times; the rest has the method's own times."""
    time_mean: float = -0.4
    """Mean of the logit-normal times."""
    time_std: float = 1.0
    """Standard deviation of the logit-normal times; 0 means uniform times."""
    power: float = 0.0
    """Power p of the adaptive weight 1 / (|R|^2 + c)^p; 0 is the plain square."""
    constant: float = 0.01
    """Constant c of the adaptive weight."""
    reduce: Reduce = "sum"
    """Whether |R|^2 is the sum or the mean over dimensions; positions: of a text the mean over its
    positions, the sum over symbols."""
    both: float = 0.0
    """Share of the jump rows that go towards noise, s < t, for a map that runs both ways."""
    grow: float = 0.0
    """Fraction of the training over which jumps grow from nothing to their length; 0: they have it
    from the start."""
    measured: str = ""
    """Certificate of a trained run (certificate.json, by apps.inspect --certify): half of the jump
    rows get times where that map was measured to be wrong."""
    learned_weight: bool = False
    """Learn a weight of each pair of times, so that all count alike (EDM2, sCM)."""
    form: Form = "average"
    """The network's output: the average velocity, or the rotation of Simple-EDM and TrigFlow."""
    warm_start: bool = True
    """Start from the teacher's weights where it is a plain run of the same network."""
    label_drop: float = by_kind(0.1, small_image=0.0)
    """Probability with which a label is replaced by the null class; where guidance is learned, 0
    means 0.1."""
    guidance: GuidanceConfig = GuidanceConfig()

    def __post_init__(self):
        shares = {"diagonal": self.diagonal, "full": self.full, "uniform": self.uniform}
        shares |= {"label-drop": self.label_drop, "both": self.both, "grow": self.grow}
        for name, share in shares.items():
            require(0 <= share <= 1, f"--plugin.{name} must be in [0, 1], got {share}")
        for name in ("time_std", "power", "constant"):
            value = getattr(self, name)
            flag = f"--plugin.{name.replace('_', '-')}"
            require(0 <= value < math.inf, f"{flag} must be 0 or more, and finite, got {value}")
        require(math.isfinite(self.time_mean), "--plugin.time-mean must be a finite number")
        require(self.full + self.uniform <= 1 + 1e-6, "--plugin.full and --plugin.uniform exceed 1")
        require(
            not self.guidance.head or getattr(self, "head", False),
            "--plugin.guidance.head reads a velocity head: it is for imf with --plugin.head",
        )

    @abc.abstractmethod
    def jump(self, teacher: Any) -> Term | GroupTerm:
        """The residual of the jump rows. `teacher` is a `Teacher` where `needs_teacher`, else None,
        here and in all that follows."""

    @overridable
    def diagonal_term(self, teacher: Any) -> Term:
        """The residual of the diagonal rows: the velocity is the teacher's, or the pair's."""
        return FlowMatching() if teacher is None else TeacherMatching(teacher)

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
            objective=self.row_objective(path, teacher, task),
            players={LOG_WEIGHT: log_weight(key)} if self.learned_weight else {},
            sampler=self.sampler,
            **self.target_parameters(task),
        )

    @overridable
    def row_objective(self, path: Interpolant, teacher: Teacher | None, task: Task) -> RowObjective:
        """The objective of the kinds of rows, with the task's classes and steps.

        Raises `UserError` where a teacher is needed and there is none.
        """
        teacher = needed(teacher, self.card.name) if self.needs_teacher else None
        drop = self.label_drop or (0.1 if self.guidance.on else 0.0)
        kinds, guide = self.kinds(teacher, task), self.guide(task)
        if self.grow:
            kinds = tuple(self.growing(kind) for kind in kinds)
        if self.both:
            kinds = tuple(self.exchanged(kind) for kind in kinds)
        return RowObjective(path, kinds, task.num_classes, drop, task.steps, guide)

    @property
    def guided(self) -> float | None:
        return self.guidance.learned if self.guidance.on else None

    def guide(self, task: Task) -> Guide | None:
        """Guidance that is learned. Raises `UserError` where it cannot be."""
        if not self.guidance.on:
            return None
        require(
            self.guidable, f"{self.card.name} cannot learn guidance; leave out --plugin.guidance"
        )
        require(task.num_classes > 0, "--plugin.guidance needs data with labels")
        require(
            not self.needs_teacher or self.guidance.most is not None,
            "a teacher's fixed guidance is set by --teaching.scale; --plugin.guidance.most draws "
            "its scale, which the student learns as an input",
        )
        return Guide(self.guidance, task.num_classes, targets=not self.needs_teacher)

    @overridable
    def net_flags(self, flags: Any) -> Any:
        if self.guidance.most is None or flags.takes_guidance:
            return flags
        return dataclasses.replace(flags, guidance=True)

    @overridable
    def target_parameters(self, task: Task) -> dict[str, Any]:
        """`target_decay` or `target_every` of the `Method`, where targets use other parameters."""
        del task
        return {}

    def starts_from(self, teacher: Teacher | None) -> bool:
        wanted = self.warm_start and self.needs_teacher
        return teacher is not None and (wanted or self.from_teacher)

    @overridable
    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        """The map that is trained."""
        if self.form == "average":
            return AverageVelocityMap(net=net, path=path)
        return FORMS[self.form](net=net, path=gaussian(path))

    @overridable
    def kinds(self, teacher: Any, task: Task) -> tuple[RowKind, ...]:
        """The kinds of rows: diagonal and jump, with the shares of the flags."""
        del task
        return (
            RowKind(
                "diagonal",
                self.diagonal,
                Diagonal(self.diagonal_distribution()),
                self.diagonal_term(teacher),
                self.weight(),
            ),
            RowKind(
                "jump",
                1 - self.diagonal,
                self.jump_mixture(),
                self.jump(teacher),
                self.weight(),
                self.step_function(),
            ),
        )

    def exchanged(self, kind: RowKind) -> RowKind:
        """The kind with jumps in both directions; diagonal rows as they are. Raises `UserError`."""
        require(
            self.both_ways and kind.step is None,
            f"{self.card.name} trains jumps towards the data alone: leave out --plugin.both",
        )
        if isinstance(kind.times, Diagonal):
            return kind
        return dataclasses.replace(kind, times=BothWays(kind.times, self.both))

    def growing(self, kind: RowKind) -> RowKind:
        """The kind with jumps that grow; diagonal rows as they are. Raises `UserError`."""
        require(
            (self.both_ways or self.any_times) and kind.step is None,
            f"{self.card.name} does not train jumps between any two times: leave out --plugin.grow",
        )
        if isinstance(kind.times, Diagonal):
            return kind
        return dataclasses.replace(kind, times=Growing(kind.times, self.grow))

    @overridable
    def weight(self) -> Weight:
        """The weight of both kinds."""
        return Adaptive(self.power, self.constant, self.reduce)

    def distribution(self) -> TimeDistribution:
        """The distribution of a single time that the flags name."""
        return LogitNormal(self.time_mean, self.time_std) if self.time_std > 0 else Uniform()

    @overridable
    def diagonal_distribution(self) -> TimeDistribution:
        """The distribution of the diagonal's times: the method's own and the uniform one, mixed."""
        return MixedDistribution((Uniform(), self.distribution()), (self.uniform, 1 - self.uniform))

    @overridable
    def step_function(self) -> Step | None:
        """Where the neighbour of a jump's source time lies, for rules with a finite step."""
        return None

    @overridable
    def jump_times(self) -> TimeSampler:
        """The method's own pairs of times."""
        return OrderedPair(self.distribution(), self.distribution())

    @overridable
    def whole_jumps(self) -> TimeSampler:
        """The pairs of times that train the whole jump."""
        return OrderedPair(Point(1.0), Point(0.0))

    def jump_mixture(self) -> TimeSampler:
        """Whole jumps, uniform pairs and the method's own, in the shares of the flags."""
        parts = (self.whole_jumps(), OrderedPair(Uniform(), Uniform()), self.jump_times())
        usual = Mixture(parts, (self.full, self.uniform, 1 - self.full - self.uniform))
        if not self.measured:
            return usual
        require(
            self.both_ways,
            f"{self.card.name} has pairs of times of its own: leave out --plugin.measured",
        )
        return Mixture((measured(self.measured), usual), (0.5, 0.5))


def needed(teacher: Teacher | None, name: str) -> Teacher:
    """The teacher. Raises `UserError` where there is none."""
    if teacher is None:
        raise UserError(f"{name} needs a teacher: --teacher runs/NAME, or --teacher exact")
    return teacher
