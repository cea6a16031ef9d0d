"""Steering: draws from `p(x) exp(lambda r(x)) / Z` with a trained map of `p`.

A `Steering` is a method as a frozen dataclass whose fields are its flags, like a training plugin.
It works on one island of particles; islands are independent, so that their spread is the error.
"""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.errors import NotFinite
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.overriding import overridable
from core.registry import Registry
from core.steering.adapter import Proposal
from core.steering.reward import Reward
from core.times.warp import Warp


class Tilt(eqx.Module):
    """The tilted distribution: that of a map's samples, times `exp(strength r(x))`.

    **Fields:** `chunk`, how many particles of an island go through the network at once, or all;
    `proposal`, the noise that the map was trained with for observations, where it was; `symbols`,
    their number for tokens, whose chains step evenly in the time in which symbols are lost.
    """

    flow_map: FlowMap
    reward: Reward
    strength: Float[Array, ""]
    shape: tuple[int, ...] = eqx.field(static=True)
    cond: Condition | None = None
    chunk: int | None = eqx.field(static=True, default=None)
    proposal: Proposal | None = None
    symbols: int = eqx.field(static=True, default=0)

    def times(self, steps: int) -> Float[Array, " nodes"]:
        """The times of a chain from noise to data."""
        units = jnp.linspace(1.0, 0.0, steps + 1)
        if self.symbols:
            units = Warp().time(units, self.symbols)
        return jax.vmap(self.flow_map.path.time_of_unit)(units)

    def each(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function of one particle on all of them; `chunk` at a time, where that is set, which
        bounds the memory and changes nothing else."""
        if self.chunk is None:
            return jax.vmap(function)
        most = self.chunk

        def in_chunks(*arguments: Any) -> Any:
            size = min(most, len(jax.tree.leaves(arguments)[0]))
            return jax.lax.map(lambda one: function(*one), arguments, batch_size=size)

        return in_chunks

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


def unweighted(x: Float[Array, " n *shape"]) -> Island:
    """Samples that count alike, as chains and guided flows give them; it says nothing of Z."""
    n = len(x)
    return Island(x, jnp.zeros(n), jnp.zeros(()), jnp.full(1, float(n)), jnp.arange(n))


def only_best(
    x: Float[Array, " n *shape"], level: Float[Array, " n"], ancestors: Int[Array, " n"]
) -> Island:
    """The particle of the highest `level` alone, as searches give it; it says nothing of Z."""
    log_w = jnp.where(jnp.arange(len(x)) == jnp.argmax(level), 0.0, -jnp.inf)
    return Island(x, log_w, jnp.zeros(()), jnp.ones(1), ancestors)


@dataclasses.dataclass(frozen=True)
class Evaluations:
    """Per particle: evaluations of the map forward and backward, calls of the reward, and
    evaluations of the velocity alone, which where the map is a solve are cheaper."""

    forward: int
    backward: int = 0
    reward: int = 1
    velocity: int = 0
    velocity_backward: int = 0

    @property
    def total(self) -> int:
        """Forward evaluations, with two for each backward one."""
        return self.evaluations(1)

    def evaluations(self, of_map: int) -> int:
        """Evaluations of the network, `of_map` in one of the map; a backward one counts as two."""
        of_velocity = self.velocity + 2 * self.velocity_backward
        return of_map * (self.forward + 2 * self.backward) + of_velocity

    def with_gradient(self) -> "Evaluations":
        """The cost of the value and its gradient together."""
        return dataclasses.replace(self, backward=self.forward, velocity_backward=self.velocity)

    def __add__(self, other: "Evaluations") -> "Evaluations":
        mine, theirs = dataclasses.astuple(self), dataclasses.astuple(other)
        return Evaluations(*(a + b for a, b in zip(mine, theirs, strict=True)))

    def __mul__(self, times: int) -> "Evaluations":
        return Evaluations(*(times * count for count in dataclasses.astuple(self)))


Need = Literal["velocity", "between", "gradient", "proposal"]
"""The map's velocity, which one of jumps to the data has not; the map at states between noise and
data; the gradient of the reward; the noise of an adapter, which runs of few methods have."""


@dataclasses.dataclass(frozen=True)
class Steering(abc.ABC):
    """A method of steering.

    `exact`: the weighted samples tend to the tilted distribution as particles or moves grow.
    `normalises`: `exp(log_z)` of an island has the mean Z, for any number of particles; of `fmtt`
    as steps grow.
    """

    name: ClassVar[str]
    exact: ClassVar[bool]
    normalises: ClassVar[bool] = False
    source: ClassVar[str]

    @abc.abstractmethod
    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        """One island of `n` particles."""

    @abc.abstractmethod
    def cost(self, reward: Reward) -> Evaluations:
        """The cost of a particle, with this reward."""

    @overridable
    def needs(self, reward: Reward) -> frozenset[Need]:
        """Its needs of the run and of this reward beside jumps from noise; none here."""
        del reward
        return frozenset()


JACKKNIFE = 8
"""Fewer islands than this say too little about their spread."""


@dataclasses.dataclass(frozen=True)
class Steered:
    """The islands of a method together, and their estimates.

    **Fields:** `x`, `weights` (sum 1) of all particles; `log_z` and its standard error, by the
    jackknife over islands, where there are `JACKKNIFE` of them or more, else NaN; `ess`, the
    mean effective sample size of an island over its particles, after each step; `starts`, the mean
    share of starts that have a descendant left.
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
    labels: Int[np.ndarray, " classes"] | None = None,
    together: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Steered:
    """Runs `islands` islands of `n` particles, `together` at a time; the result does not depend on
    that number. Islands count in proportion to their estimates of Z.

    With `labels` the prior is the mixture of these classes in equal parts, `p = mean_c p_c`: island
    `i` is of class `labels[i % classes]` in the place of the tilt's own condition, and
    `Z = mean_c Z_c`. `islands` is then a multiple of the number of classes, and the islands of
    `log_z_islands` are rounds of all classes.
    """
    keys, turns = jr.split(key, islands), None if labels is None else np.resize(labels, islands)
    if labels is not None and islands % len(labels):
        raise ValueError(f"{islands} islands are no multiple of {len(labels)} classes")
    parts = []
    for i in range(0, islands, together):
        some = slice(i, i + together)
        of = None if turns is None else jnp.asarray(turns[some])
        parts.append(jax.block_until_ready(_run(method, tilt, n, keys[some], of)))
        if progress is not None:
            progress(len(keys[i : i + together]))
    joined = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(a) for a in leaves]), *parts)
    return _checked(_gathered(joined, n, 1 if labels is None else len(labels)))


def _checked(found: Steered) -> Steered:
    finite = np.isfinite(found.x).reshape(len(found.x), -1).all(axis=1)
    bad = int(np.sum(~(finite & np.isfinite(found.weights))))
    if bad:
        raise NotFinite(
            f"the reward or its gradient is not finite for some states on the way: {bad:,} of "
            f"{len(found.x):,} samples or their weights are not; fix it, lower --strength, or try "
            "snis"
        )
    return found


@eqx.filter_jit
def _run(
    method: Steering,
    tilt: Tilt,
    n: int,
    keys: Key[Array, " islands"],
    labels: Int[Array, " islands"] | None = None,
) -> Island:
    if labels is None:
        return jax.vmap(lambda key: method.island(tilt, n, key))(keys)

    def of_class(key, label):
        return method.island(dataclasses.replace(tilt, cond=Condition(label=label)), n, key)

    return jax.vmap(of_class)(keys, labels)


def _gathered(islands: Island, n: int, classes: int = 1) -> Steered:
    log_z = np.asarray(islands.log_z, np.float64)
    within = np.asarray(jax.nn.softmax(islands.log_w, axis=1), np.float64)
    share = np.exp(log_z - log_z.max())
    weights = (within * (share / share.sum())[:, None]).reshape(-1)
    starts = np.mean([len(np.unique(row)) / n for row in np.asarray(islands.ancestors)])
    rounds = np.log(np.maximum(share.reshape(-1, classes).mean(axis=1), 1e-300)) + log_z.max()
    return Steered(
        x=np.concatenate(list(islands.x)),
        weights=weights / weights.sum(),
        log_z=float(np.log(share.mean()) + log_z.max()),
        log_z_error=jackknife(rounds) if len(rounds) >= JACKKNIFE else float("nan"),
        log_z_islands=log_z if classes == 1 else rounds,
        ess=np.asarray(islands.ess).mean(axis=0) / n,
        starts=float(starts),
    )


def jackknife(log_z: Float[np.ndarray, " islands"]) -> float:
    """The standard error of `log mean exp(log_z)`, from its values with one island left out."""
    count = len(log_z)
    share = np.exp(log_z - log_z.max())
    without = np.log(np.maximum(share.sum() - share, 1e-300))
    return float(np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2)))


Registered = TypeVar("Registered", bound=type[Steering])
STEERING: Registry[type[Steering]] = Registry("steering method")


def register_steering(cls: Registered) -> Registered:
    """Class decorator: makes a method known by its `name`. A name taken by another raises."""
    STEERING.add(cls.name, cls)
    return cls


def steerings() -> dict[str, type[Steering]]:
    """All methods of steering by name, those of installed packages too."""
    return dict(sorted(STEERING.items()))


def find_steering(name: str) -> type[Steering]:
    """The method of that name. Raises `UserError` with the nearest name where there is none."""
    return STEERING.find(name)
