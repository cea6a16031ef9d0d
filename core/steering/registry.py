"""The rewards that are known by name: `--reward NAME` or `--reward NAME:ARGUMENT`.

A package of its own adds to them as it adds methods: a module of the entry-point group
`portolan.plugins` runs `@register_reward` when it is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import UserError, require
from core.nets.encoder import Classifier
from core.registry import Registry
from core.steering.reward import Reward, Sum


@dataclass(frozen=True)
class RewardContext:
    """The context in which a reward is made: the shape of an example, and the data and a classifier
    of it where there are any. `data` may be a function that opens them: it is called when a reward
    asks for `dataset`, so that other rewards do without. `spec` describes examples of text."""

    shape: tuple[int, ...]
    data: Dataset | Callable[[], Dataset] | None = None
    classifier: Classifier | None = None
    spec: DataSpec | None = None

    @property
    def text(self) -> DataSpec | None:
        """The description of the examples, where these are texts."""
        return self.spec if self.spec is not None and self.spec.kind == "tokens" else None

    @property
    def dataset(self) -> Dataset | None:
        """The data, opened where they were not yet."""
        return self.data() if callable(self.data) else self.data

    def image(self, name: str) -> tuple[int, int, int]:
        """The shape of an image. Raises `UserError` for points."""
        if len(self.shape) != 3:
            raise UserError(f"the reward {name!r} is for images")
        return self.shape

    def example(self, index: float, name: str) -> Float[Array, "*shape"]:
        """An example of the data, as network values, or the picture of a latent. Raises
        `UserError` where there is none."""
        dataset = self.dataset
        if dataset is None:
            raise UserError(f"the reward {name!r} looks at an example, and there are no data here")
        count = len(dataset)
        require(
            index == int(index) and 0 <= index < count,
            f"--reward {name}: examples go from 0 to {count - 1}, got {index:g}",
        )
        stored = dataset.take(np.array([int(index)]))
        return jnp.asarray(dataset.spec.pictures(dataset.decode(stored)))[0]


Maker = Callable[[str, RewardContext], Reward]


@dataclass(frozen=True)
class RewardKind:
    """A registered reward: `make(argument, context)`, how the argument is written (empty: none, in
    brackets: optional), one line of description, and whether it has a gradient."""

    name: str
    argument: str
    summary: str
    gradient: bool
    make: Maker

    @property
    def usage(self) -> str:
        """How it is asked for."""
        if self.argument.startswith("["):
            return f"{self.name}[:{self.argument[1:]}"
        return f"{self.name}:{self.argument}" if self.argument else self.name


REWARDS: Registry[RewardKind] = Registry("reward")


def register_reward(
    name: str, argument: str = "", *, gradient: bool = True
) -> Callable[[Maker], Maker]:
    """Decorator of a function `(argument, context) -> Reward`, whose docstring's first line
    describes the reward. A name that another function has raises `ValueError`."""

    def register(make: Maker) -> Maker:
        summary = (make.__doc__ or "").strip().split("\n")[0].rstrip(".")
        REWARDS.add(name, RewardKind(name, argument, summary, gradient, make))
        return make

    return register


def rewards() -> dict[str, RewardKind]:
    """All rewards by name, those of installed packages too."""
    return dict(sorted(REWARDS.items()))


def make_reward(
    names: tuple[str, ...], weights: tuple[float, ...], context: RewardContext
) -> Reward:
    """The weighted sum of the named rewards. Raises `UserError` for an unknown name or argument."""
    require(len(names) > 0, "name a --reward")
    weights = weights or (1.0,) * len(names)
    require(len(weights) == len(names), f"{len(weights)} --weights for {len(names)} rewards")
    parts = [_named(name, context) for name in names]
    return parts[0] if weights == (1.0,) else Sum(tuple(parts), weights)


def _named(name: str, context: RewardContext) -> Reward:
    head, _, argument = name.partition(":")
    kind = REWARDS.find(head)
    require(bool(kind.argument) or not argument, f"the reward {head!r} takes no argument")
    needed = kind.argument and not kind.argument.startswith("[")
    require(bool(argument) or not needed, f"--reward {head} needs an argument: {kind.usage}")
    reward = kind.make(argument, context)
    if not isinstance(reward, Reward):
        raise UserError(f"the reward {head!r} made no Reward but a {type(reward).__name__}")
    return reward


def numbers(argument: str, defaults: tuple[float, ...], what: str) -> tuple[float, ...]:
    """The numbers of an argument `A,B`; those not given have their defaults.

    Raises `UserError` for text that is no number, and for more numbers than defaults.
    """
    given = argument.split(",") if argument else []
    try:
        found = [float(text) for text in given]
    except ValueError:
        found = None
    if found is None or len(found) > len(defaults):
        count = "a number" if len(defaults) == 1 else f"at most {len(defaults)} numbers"
        raise UserError(f"--reward {what} takes {count}, got {argument!r}")
    return *found, *defaults[len(found) :]
