"""Steering: draws from `p(x) exp(lambda r(x)) / Z` with a trained map of `p`.

A `Steering` is a method as a frozen dataclass whose fields are its flags, like a training plugin.
It works on one island of particles; islands are independent, so that their spread is the error.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.condition import Condition
from core.flow_map import FlowMap
from core.plugin import load_packages, pick
from core.steering.reward import Reward


class Tilt(eqx.Module):
    """What is drawn from: the law of a map's samples, times `exp(strength r(x))`."""

    flow_map: FlowMap
    reward: Reward
    strength: Float[Array, ""]
    shape: tuple[int, ...] = eqx.field(static=True)
    cond: Condition | None = None

    def noise(self, key: Key[Array, ""], n: int) -> Float[Array, " n *shape"]:
        """The start of `n` particles."""
        return jax.vmap(lambda k: self.flow_map.path.prior(k, self.shape))(jr.split(key, n))

    def log_tilt(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        """`lambda r(x)`, in float32 at least."""
        value = self.strength * self.reward(x)
        return value.astype(jnp.promote_types(value.dtype, jnp.float32))


class Island(eqx.Module):
    """Weighted samples of one island.

    **Fields:** `x`; `log_w`, their weights, of which only ratios count; `log_z`, an estimate whose
    exponential has the mean Z for methods that claim so; `ess`, the effective sample size after
    each step; `ancestors`, from which start each sample comes.
    """

    x: Float[Array, " n *shape"]
    log_w: Float[Array, " n"]
    log_z: Float[Array, ""]
    ess: Float[Array, " steps"]
    ancestors: Int[Array, " n"]


@dataclasses.dataclass(frozen=True)
class Cost:
    """Per particle: evaluations of the network forward and backward, and calls of the reward."""

    forward: int
    backward: int = 0
    reward: int = 1

    @property
    def total(self) -> int:
        """Forward evaluations, with two for each backward one."""
        return self.forward + 2 * self.backward


@dataclasses.dataclass(frozen=True)
class Steering(abc.ABC):
    """A method of steering.

    `exact`: the weighted samples tend to the tilted law as particles or moves grow. `normalises`:
    `exp(log_z)` of an island has the mean Z, for any number of particles.
    """

    name: ClassVar[str]
    exact: ClassVar[bool]
    normalises: ClassVar[bool] = False
    source: ClassVar[str]

    @abc.abstractmethod
    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        """One island of `n` particles."""

    @abc.abstractmethod
    def cost(self, reward: Reward) -> Cost:
        """What a particle costs, with this reward."""

    def needs_gradient(self, reward: Reward) -> bool:
        """Whether it takes the gradient of this reward."""
        del reward
        return False


@dataclasses.dataclass(frozen=True)
class Steered:
    """The islands of a method together, and what they say.

    **Fields:** `x`, `weights` (sum 1) of all particles; `log_z` and its standard error over
    islands; `ess`, the mean effective sample size of an island over its particles, after each step;
    `starts`, the mean share of starts that have a descendant left.
    """

    x: Float[np.ndarray, " n *shape"]
    weights: Float[np.ndarray, " n"]
    log_z: float
    log_z_error: float
    log_z_islands: Float[np.ndarray, " islands"]
    ess: Float[np.ndarray, " steps"]
    starts: float

    def mean(self, values: Float[np.ndarray, " n ..."]) -> np.ndarray:
        """The weighted mean of a value of each sample."""
        return np.tensordot(self.weights, values, axes=1)

    def draw(self, count: int, seed: int = 0) -> Float[np.ndarray, " count *shape"]:
        """Unweighted samples, by resampling."""
        index = np.random.default_rng(seed).choice(len(self.x), count, p=self.weights)
        return self.x[index]


def steer(
    method: Steering,
    tilt: Tilt,
    *,
    n: int,
    islands: int,
    key: Key[Array, ""],
    together: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Steered:
    """Runs `islands` islands of `n` particles, `together` at a time; the result does not depend on
    that number. Islands count in proportion to their estimates of Z."""
    run = eqx.filter_jit(lambda tilt, keys: jax.vmap(lambda k: method.island(tilt, n, k))(keys))
    keys = jr.split(key, islands)
    parts = []
    for i in range(0, islands, together):
        parts.append(jax.block_until_ready(run(tilt, keys[i : i + together])))
        if progress is not None:
            progress(len(keys[i : i + together]))
    joined = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(a) for a in leaves]), *parts)
    return _gathered(joined, n)


def _gathered(islands: Island, n: int) -> Steered:
    log_z = np.asarray(islands.log_z, np.float64)
    within = np.asarray(jax.nn.softmax(islands.log_w, axis=1), np.float64)
    share = np.exp(log_z - log_z.max())
    weights = (within * (share / share.sum())[:, None]).reshape(-1)
    ratio = share / share.mean()
    error = float(ratio.std(ddof=1) / np.sqrt(len(ratio))) if len(ratio) > 1 else float("nan")
    starts = np.mean([len(np.unique(row)) / n for row in np.asarray(islands.ancestors)])
    return Steered(
        x=np.concatenate(list(islands.x)),
        weights=weights / weights.sum(),
        log_z=float(np.log(share.mean()) + log_z.max()),
        log_z_error=error,
        log_z_islands=log_z,
        ess=np.asarray(islands.ess).mean(axis=0) / n,
        starts=float(starts),
    )


Registered = TypeVar("Registered", bound=type[Steering])
_STEERINGS: dict[str, type[Steering]] = {}


def register_steering(cls: Registered) -> Registered:
    """Class decorator: makes a method known by its `name`. A name taken by another raises."""
    known = _STEERINGS.get(cls.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ValueError(f"steering method {cls.name!r} is taken by {known.__module__}")
    _STEERINGS[cls.name] = cls
    return cls


def steerings() -> dict[str, type[Steering]]:
    """All methods of steering by name, those of installed packages too."""
    load_packages()
    return dict(sorted(_STEERINGS.items()))


def find_steering(name: str) -> type[Steering]:
    """The method of that name. Raises `UserError` with the nearest name where there is none."""
    return pick(steerings(), name, "steering method")
