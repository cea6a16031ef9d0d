"""Noise, denoise, correct: a Markov chain on clean examples.

    x_t = (1 - t) x_0 + t z,    x_0' ~ p(x_0 | x_t),    accept with min(1, exp(lambda (r' - r)))

The proposal is reversible for the prior, so only the reward is left in the ratio. The denoising has
to be a draw of the posterior: the flow map keeps the prior too, but is not reversible, and the
chain then tends elsewhere. The draw is GLASS's (core.steering.glass). Source: the diffusion waltz
(Takao et al., 2026).
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import require
from core.steering.chain import last_of_chain
from core.steering.glass import posterior_draw
from core.steering.linear import on_linear
from core.steering.look import Jump
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Island,
    Need,
    Steering,
    Tilt,
    register_steering,
    unweighted,
)


@register_steering
@dataclass(frozen=True)
class Waltz(Steering):
    """Chains that noise and denoise: exact in the long run, but for the inner steps' error."""

    name: ClassVar[str] = "waltz"
    exact: ClassVar[bool] = True
    source: ClassVar[str] = "Takao et al. 2026; arXiv 2509.25170"

    moves: int = 32
    """Moves of each chain; the first ones forget the start."""
    time: float = 0.5
    """How far a move noises, in (0, 1): 1 forgets the state."""
    inner: int = 16
    """Evaluations of each denoising."""

    def __post_init__(self):
        require(self.moves >= 1, f"--moves must be at least 1, got {self.moves}")
        require(0 < self.time < 1, f"time must be between 0 and 1, got {self.time}")
        require(self.inner >= 1, f"inner must be at least 1, got {self.inner}")

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return frozenset({"velocity", "between"})

    def cost(self, reward: Reward) -> Evaluations:
        del reward
        return Evaluations(forward=1, velocity=self.moves * self.inner, reward=1 + self.moves)

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        tilt = on_linear(tilt, self.name)
        key_start, key_moves = jr.split(key)
        noise = tilt.noise(key_start, n)
        x = jax.vmap(lambda z, k: self.last(tilt, z, k))(noise, jr.split(key_moves, n))
        return unweighted(x)

    def last(
        self, tilt: Tilt, noise: Float[Array, "*shape"], key: Key[Array, ""]
    ) -> Float[Array, "*shape"]:
        """The last state of one chain, which starts at the noise's own example."""
        path = tilt.flow_map.path
        start = Jump()(tilt.flow_map, noise, path.time_of_unit(1.0), tilt.cond)
        propose = partial(self.proposal, tilt)
        return last_of_chain(tilt.log_tilt, propose, start, key, self.moves)

    def proposal(
        self, tilt: Tilt, key: Key[Array, ""], x: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """Noised, and denoised by a draw of the posterior."""
        key_noise, key_draw = jr.split(key)
        t = jnp.asarray(self.time, x.dtype)
        noised = tilt.flow_map.path.interpolate(x, jr.normal(key_noise, x.shape, x.dtype), t)
        return posterior_draw(tilt.flow_map, noised, t, key_draw, tilt.cond, self.inner)
