"""Plugins: a method as a frozen dataclass whose fields are its command-line flags."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

from jaxtyping import Array, Key

from core.data.dataset import Dataset
from core.flow.flow_map import FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import defaults
from core.methods.recipes import Recipe
from core.objectives.objective import Objective
from core.oracle.problem import Problem
from core.overriding import overridable

Progress = Callable[[int, int], None]
"""Called with `(done, of)` while something long is made."""


@dataclasses.dataclass(frozen=True)
class DataContext:
    """The context in which a method's own data are made: a teacher, where there is one, and a key;
    `progress` receives the number of examples that are done."""

    teacher: Teacher | None
    key: Key[Array, ""]
    progress: Progress | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """The task of a method: `shape` of one example, `kind`, the number of classes, the number
    of training steps, over which curricula run, and the data where they are available."""

    shape: tuple[int, ...]
    kind: str = "points"
    num_classes: int = 0
    steps: int = 1
    data: Dataset | None = None


@dataclasses.dataclass(frozen=True)
class Method:
    """The result of a plugin for the loop: the map, its training, and its sampling.

    **Fields:** `flow_map` the player "model"; `objective`; `players` further trained networks by
    name; `rates` their learning rates, in units of --optim.rate, where they are not 1; `sampler`
    the name of the default sampler (see `core.sampling.SAMPLERS`). The parameters
    that targets use are the current ones, or with `target_decay` an EMA of that decay, or with
    `target_every` a copy that is renewed every so many steps.
    """

    flow_map: FlowMap
    objective: Objective
    players: dict[str, Any] = dataclasses.field(default_factory=dict)
    rates: dict[str, float] = dataclasses.field(default_factory=dict)
    sampler: str = "pushforward"
    target_decay: float | None = None
    target_every: int | None = None


@dataclasses.dataclass(frozen=True)
class Plugin(abc.ABC):
    """A training method. A subclass is a frozen dataclass: its fields are its flags.

    `card` describes it. The other class variables say how it is trained and used:
    `from_teacher`: training starts from the teacher's weights. `tunes`: it goes on from a trained
    map, so that recipes are short and slow. `most_nfe`: the evaluations beyond
    which sampling means nothing, 1 for a map that starts at noise only. `couples`: it asks no more
    of its pairs `(x_0, z)` than the two distributions, so that they may depend on each other and
    `z` need not be Gaussian (--source, --coupling). `paired`: its residual holds for pairs alone in
    which `z` is noise and `x_0` its end under the teacher's ODE. `labelled`: its residuals compare
    labels, so that the checks are made with classes. `spaces`: its residuals use what every space
    has, so that it runs on spheres, tori and rotations too. `tokens`: it trains the logits of
    tokens, and no other data. `policies`: its map is one by policies (`core.flow.policy`), so that
    the checks take data whose exact policy is known. `recipes`: how it is trained on each kind of
    data, and the figures that were measured so; a subclass does not inherit them. The default of a
    flag that depends on the kind of data is given by `by_kind`.
    """

    card: ClassVar[Card]
    sampler: ClassVar[str] = "pushforward"
    needs_teacher: ClassVar[bool] = False
    from_teacher: ClassVar[bool] = False
    tunes: ClassVar[bool] = False
    most_nfe: ClassVar[int | None] = None
    couples: ClassVar[bool] = False
    paired: ClassVar[bool] = False
    labelled: ClassVar[bool] = False
    spaces: ClassVar[bool] = False
    tokens: ClassVar[bool] = False
    policies: ClassVar[bool] = False
    recipes: ClassVar[tuple[Recipe, ...]] = ()

    @classmethod
    def recipe(cls, kind: str) -> Recipe | None:
        """The recipe of this kind of data among the class's own; None: that of all methods."""
        own: tuple[Recipe, ...] = vars(cls).get("recipes", ())
        return next((each for each in own if each.kind == kind), None)

    @classmethod
    def preset(cls, kind: str) -> Self:
        """The default flags for the recipe of the data: "points", "small-image" or "image"."""
        return cls(**defaults(cls, kind))

    @classmethod
    @overridable
    def whole(cls) -> Self:
        """The version whose every row pays for every term, as surveys count a method's cost.

        Each kind of rows with a share is then counted on the whole batch.
        """
        return cls.preset("image")

    @property
    @overridable
    def guided(self) -> float | None:
        """The guidance scale that is learned (the least, where it is an input), or None."""
        return None

    @property
    def with_labels(self) -> bool:
        """Whether its residuals depend on labels: guidance that is learned, or conditions that are
        compared."""
        return self.guided is not None or self.labelled

    @overridable
    def learns(self, problem: Problem) -> Problem:
        """The distribution whose flow map the method converges to when the data follow `problem`;
        another one where it is tilted."""
        return problem

    @overridable
    def starts_from(self, teacher: Teacher | None) -> bool:
        """Whether training starts from the weights of this teacher."""
        return teacher is not None and self.from_teacher

    @overridable
    def net_flags(self, flags: Any) -> Any:
        """The network's flags with the method's needs, such as guidance as an input."""
        return flags

    @overridable
    def dataset(self, data: Dataset, making: DataContext) -> Dataset:
        """The training data of the method: the data set, or pairs that a teacher makes first."""
        del making
        return data

    @property
    @overridable
    def teacher_derivatives(self) -> tuple[Literal["x", "t"], ...]:
        """The variables in which a gradient passes through the teacher's velocity: a teacher of the
        user's own is then asked for its derivatives before the training."""
        return ()

    @classmethod
    @overridable
    def variants(cls) -> dict[str, Self]:
        """The versions of the method that the oracle checks are run on, by name."""
        return {"": cls.preset("points")}

    @overridable
    def flow_map(self, net: Network, path: Interpolant) -> FlowMap | None:
        """The map that `method` trains, around this network: what a run is opened with, without
        its data, its teacher or other runs. None: it is taken from `method`, which is then given a
        teacher that cannot be asked, and no data."""
        del net, path
        return None

    @abc.abstractmethod
    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        """Builds the method around a fresh network.

        **Arguments:** `net(x, s, t, cond)` on one example; `path`; `teacher`, given where
        `needs_teacher`; `task`; `key` for networks of the plugin's own.
        """
