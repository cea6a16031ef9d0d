"""Optimisation of the noise of the one-step map: a search; several starts are no distribution.

    minimise   -lambda r(F(z, 1, 0)) + c [|z|^2 / 2 - (d - 1) log |z|]

The bracket is minus the log density of the length of Gaussian noise, smallest at `sqrt(d - 1)`; it
keeps the noise typical. The best iterate is returned, not the last. Source: ReNO (arXiv
2406.04312), and its settings.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import require
from core.flow.path import gaussian
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
class ReNO(Steering):
    """Gradient ascent on the reward in the noise. Seeks modes."""

    name: ClassVar[str] = "reno"
    exact: ClassVar[bool] = False
    source: ClassVar[str] = "arXiv 2406.04312"

    moves: int = 50
    """Steps of stochastic gradient descent with Nesterov's momentum."""
    rate: float = 5.0
    """Learning rate."""
    momentum: float = 0.9
    """Momentum."""
    clip: float = 0.1
    """Longest gradient."""
    penalty: float = 0.01
    """Weight c of the length's density; best multiplied along with lambda."""

    def __post_init__(self):
        require(self.moves >= 1, f"--moves must be at least 1, got {self.moves}")
        require(self.rate > 0 and self.clip > 0, "rate and clip must be positive")
        require(0 <= self.momentum < 1, f"momentum must be in [0, 1), got {self.momentum}")
        require(self.penalty >= 0, f"penalty must not be negative, got {self.penalty}")

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return frozenset({"gradient"})

    def cost(self, reward: Reward) -> Evaluations:
        """A step, and the end of the last."""
        del reward
        return Evaluations(forward=self.moves + 1, backward=self.moves, reward=self.moves + 1)

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        x = jax.vmap(lambda z: self.best(tilt, z))(tilt.noise(key, n))
        return unweighted(x)

    def best(self, tilt: Tilt, noise: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The sample of the iterate with the smallest loss."""
        import optax

        path = gaussian(tilt.flow_map.path)
        start = path.time_of_unit(1.0)
        scale = path.sigma(start) * path.noise_std

        def loss(z: Float[Array, "*shape"]) -> tuple[Float[Array, ""], Float[Array, "*shape"]]:
            x = Jump()(tilt.flow_map, scale * z, start, tilt.cond)
            return self.penalty * length_penalty(z) - tilt.log_tilt(x), x

        optimiser = optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.sgd(self.rate, momentum=self.momentum, nesterov=True),
        )

        def step(state: Any, _: None) -> tuple[Any, None]:
            z, moments, lowest, kept = state
            (value, x), slope = jax.value_and_grad(loss, has_aux=True)(z)
            better = value < lowest
            kept, lowest = jnp.where(better, x, kept), jnp.where(better, value, lowest)
            change, moments = optimiser.update(slope, moments)
            return (optax.apply_updates(z, change), moments, lowest, kept), None

        z = noise / scale
        lowest = jnp.asarray(jnp.inf, jax.eval_shape(loss, z)[0].dtype)
        state = z, optimiser.init(z), lowest, jnp.zeros_like(z)
        end: Any = jax.lax.scan(step, state, length=self.moves)[0]
        z, _, lowest, kept = end
        value, x = loss(z)
        return jnp.where(value < lowest, x, kept)


def length_penalty(z: Float[Array, "*shape"]) -> Float[Array, ""]:
    """`|z|^2 / 2 - (d - 1) log |z|`: minus the log density of `|z|`, up to its constant."""
    square = jnp.sum(z**2)
    return square / 2 - (z.size - 1) / 2 * jnp.log(jnp.maximum(square, 1e-30))
