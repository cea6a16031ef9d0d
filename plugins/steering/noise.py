"""Markov chains on the noise of the one-step map: exact for that map in the long run.

    z ~ N(z; 0, I) exp(lambda r(F(z, 1, 0)))      then x = F(z, 1, 0) has the tilted distribution

No Jacobian is needed. A particle is a chain; its last state is the sample.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import require
from core.flow.path import gaussian
from core.steering.chain import last_of_chain
from core.steering.look import Jump
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Island,
    Steering,
    Tilt,
    register_steering,
    unweighted,
)


@dataclass(frozen=True)
class NoiseChain(Steering):
    """Chains in standard normal noise."""

    exact: ClassVar[bool] = True

    moves: int = 64
    """Moves of each chain; the first ones forget the start."""

    def __post_init__(self):
        require(self.moves >= 1, f"--moves must be at least 1, got {self.moves}")

    @abc.abstractmethod
    def last(
        self, tilt: Tilt, z: Float[Array, "*shape"], key: Key[Array, ""]
    ) -> Float[Array, "*shape"]:
        """The last state of one chain."""

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        key_start, key_moves = jr.split(key)
        z = jax.vmap(lambda k: jr.normal(k, tilt.shape))(jr.split(key_start, n))
        z = jax.vmap(lambda z, k: self.last(tilt, z, k))(z, jr.split(key_moves, n))
        x = jax.vmap(lambda z: self.sample(tilt, z))(z)
        return unweighted(x)

    def sample(self, tilt: Tilt, z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """`F(z, 1, 0)`, with the noise at the path's scale."""
        path = gaussian(tilt.flow_map.path)
        start = path.time_of_unit(1.0)
        return Jump()(tilt.flow_map, path.sigma(start) * path.noise_std * z, start, tilt.cond)

    def log_tilt(self, tilt: Tilt, z: Float[Array, "*shape"]) -> Float[Array, ""]:
        """`lambda r` of the sample."""
        return tilt.log_tilt(self.sample(tilt, z))


@register_steering
@dataclass(frozen=True)
class PCN(NoiseChain):
    """Preconditioned Crank-Nicolson: `z' = sqrt(1 - b^2) z + b xi`, accepted by the reward."""

    name: ClassVar[str] = "pcn"
    source: ClassVar[str] = "arXiv 1202.0709"

    moves: int = 128
    step: float = 0.5
    """Size b of a move, in (0, 1]."""

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.step <= 1, f"step must be in (0, 1], got {self.step}")

    def cost(self, reward: Reward) -> Evaluations:
        del reward
        return Evaluations(forward=self.moves + 2, reward=self.moves + 1)

    def last(
        self, tilt: Tilt, z: Float[Array, "*shape"], key: Key[Array, ""]
    ) -> Float[Array, "*shape"]:
        def propose(key: Key[Array, ""], z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
            return jnp.sqrt(1 - self.step**2) * z + self.step * jr.normal(key, z.shape)

        return last_of_chain(lambda z: self.log_tilt(tilt, z), propose, z, key, self.moves)


@register_steering
@dataclass(frozen=True)
class Slice(NoiseChain):
    """Elliptical slice sampling: no step size and no gradient; BlackJAX's kernel."""

    name: ClassVar[str] = "slice"
    source: ClassVar[str] = "arXiv 1001.0175, 2510.05849"

    def cost(self, reward: Reward) -> Evaluations:
        """About: each move tries until it lands above the level, two or three times."""
        del reward
        return Evaluations(forward=3 * self.moves + 2, reward=3 * self.moves + 1)

    def last(
        self, tilt: Tilt, z: Float[Array, "*shape"], key: Key[Array, ""]
    ) -> Float[Array, "*shape"]:
        with jax.ensure_compile_time_eval():  # BlackJAX makes an array while it is imported
            import blackjax

        size = z.size
        kernel = blackjax.elliptical_slice(
            lambda flat: self.log_tilt(tilt, flat.reshape(z.shape)),
            mean=jnp.zeros(size),
            cov=jnp.ones(size),
        )

        def move(state: Any, key: Key[Array, ""]) -> tuple[Any, None]:
            return kernel.step(key, state)[0], None

        start: Any = kernel.init(z.reshape(-1), None)
        end, _ = jax.lax.scan(move, start, jr.split(key, self.moves))
        return end.position.reshape(z.shape)
