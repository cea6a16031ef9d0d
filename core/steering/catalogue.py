"""Rewards by name, as `--reward name` or `--reward name:argument` asks for them."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from core.data.dataset import Dataset
from core.errors import UserError, require
from core.plugin import pick
from core.steering.compress import Compressibility
from core.steering.reward import Brightness, Reward, Sum, Symmetry, Target, load_function

Maker = Callable[[str, Dataset], Reward]


def _image(dataset: Dataset, name: str) -> None:
    require(len(dataset.shape) == 3, f"the reward {name!r} is for images")


def _brightness(argument: str, dataset: Dataset) -> Reward:
    require(not argument, "the reward 'brightness' takes no argument")
    _image(dataset, "brightness")
    return Brightness()


def _symmetry(argument: str, dataset: Dataset) -> Reward:
    _image(dataset, "symmetry")
    return Symmetry(_number(argument, "symmetry:WIDTH", 1.0))


def _example(argument: str, dataset: Dataset, what: str) -> np.ndarray:
    index = int(_number(argument, what, 0))
    require(0 <= index < len(dataset), f"--reward {what}: there are {len(dataset)} examples")
    return np.asarray(dataset.decode(dataset.take(np.array([index]))))[0]


def _target(argument: str, dataset: Dataset) -> Reward:
    example = jnp.asarray(_example(argument, dataset, "target:INDEX"))
    return Target(example, jnp.ones_like(example))


def _mask(argument: str, dataset: Dataset) -> Reward:
    _image(dataset, "mask")
    example = jnp.asarray(_example(argument, dataset, "mask:INDEX"))
    left = jnp.arange(example.shape[1]) < example.shape[1] // 2
    return Target(example, jnp.broadcast_to(left[None, :, None], example.shape) * 1.0, noise=0.1)


def _compressibility(argument: str, dataset: Dataset) -> Reward:
    require(not argument, "the reward 'compressibility' takes no argument")
    _image(dataset, "compressibility")
    return Compressibility(tuple(dataset.shape))


REWARDS: dict[str, Maker] = {
    "brightness": _brightness,
    "symmetry": _symmetry,
    "target": _target,
    "mask": _mask,
    "compressibility": _compressibility,
    "python": lambda argument, dataset: load_function(argument),
}
"""Each makes a reward from what stands behind the colon and the data set of the run."""


def make_reward(names: tuple[str, ...], weights: tuple[float, ...], dataset: Dataset) -> Reward:
    """The weighted sum of the named rewards. Raises `UserError` for an unknown name or argument."""
    require(len(names) > 0, "name a --reward")
    weights = weights or (1.0,) * len(names)
    require(len(weights) == len(names), f"{len(weights)} --weights for {len(names)} rewards")
    parts = []
    for name in names:
        head, _, argument = name.partition(":")
        parts.append(pick(REWARDS, head, "reward")(argument, dataset))
    return parts[0] if weights == (1.0,) else Sum(tuple(parts), weights)


def _number(argument: str, what: str, default: float) -> float:
    try:
        return float(argument) if argument else default
    except ValueError:
        raise UserError(f"--reward {what} needs a number, got {argument!r}") from None
