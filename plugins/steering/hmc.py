"""Hamiltonian Monte Carlo in the noise of the one-step map.

    z ~ N(z; 0, I) exp(U(z)),     U(z) = lambda r(F(z, 1, 0)),     momentum p ~ N(0, I)
    p <- p + (h/2) k(z);   (z, p) turned by the angle h;   p <- p + (h/2) k(z)

Without a reward the Gaussian part is a rotation, which is taken exactly, so that steps may be long.
The kick `k` is the gradient of `U`, shortened: as it depends on `z` alone, the step keeps volume
and can be turned back whatever `k` is, and the true energy decides about acceptance. So shortening
costs no exactness. The angle of a move is random: whole turns would lead nowhere.
BlackJAX does the rest. Source: the splitting is that of Beskos et al., "Hybrid
Monte Carlo on Hilbert spaces" (2011).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import require
from core.steering.cap import shortened
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Need,
    Tilt,
    register_steering,
)
from plugins.steering.noise import NoiseChain

if TYPE_CHECKING:
    import blackjax.mcmc.integrators


@register_steering
@dataclass(frozen=True)
class HMC(NoiseChain):
    """Hamiltonian Monte Carlo: long moves along the reward's gradient."""

    name: ClassVar[str] = "hmc"
    source: ClassVar[str] = "arXiv 1206.1901; Beskos et al. 2011"

    moves: int = 16
    leaps: int = 4
    """Steps of a move, a gradient each."""
    step: float = 0.4
    """Mean angle of a step, which is drawn again for each move, from half of it to one and a half;
    a quarter turn in all forgets the start."""
    most: float = 10.0
    """Longest gradient that kicks."""

    def __post_init__(self):
        super().__post_init__()
        require(self.leaps >= 1, f"leaps must be at least 1, got {self.leaps}")
        require(0 < self.step <= 2, f"step must be in (0, 2], got {self.step}")
        require(self.most > 0, f"most must be positive, got {self.most}")

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return frozenset({"gradient"})

    def cost(self, reward: Reward) -> Evaluations:
        del reward
        gradients = 1 + self.moves * self.leaps
        return Evaluations(forward=gradients + 1, backward=gradients, reward=gradients)

    def last(
        self, tilt: Tilt, z: Float[Array, "*shape"], key: Key[Array, ""]
    ) -> Float[Array, "*shape"]:
        with jax.ensure_compile_time_eval():  # BlackJAX makes an array while it is imported
            import blackjax

        def log_density(flat: Float[Array, " dim"]) -> Float[Array, ""]:
            return self.log_tilt(tilt, flat.reshape(z.shape)) - 0.5 * jnp.sum(flat**2)

        kernel = blackjax.hmc.build_kernel(integrator=rotations(self.most))
        unit = jnp.ones(z.size, z.dtype)

        def move(state: Any, key: Key[Array, ""]) -> tuple[Any, None]:
            key_step, key_move = jr.split(key)
            step = self.step * jr.uniform(key_step, minval=0.5, maxval=1.5)
            return kernel(key_move, state, log_density, step, unit, self.leaps)[0], None

        start: Any = blackjax.hmc.init(z.reshape(-1), log_density)
        end, _ = jax.lax.scan(move, start, jr.split(key, self.moves))
        return end.position.reshape(z.shape)


def rotations(most: float) -> Callable[..., Callable]:
    """An integrator for BlackJAX: half a kick, the exact rotation, half a kick."""

    def integrator(log_density: Callable, kinetic_energy: Callable) -> Callable:
        del kinetic_energy  # the standard one, by which the rotation is exact

        def kick(position: Array, gradient: Array) -> Array:
            return shortened(gradient + position, most)  # without the Gaussian part

        def one_step(
            state: "blackjax.mcmc.integrators.IntegratorState", step_size: Any
        ) -> "blackjax.mcmc.integrators.IntegratorState":
            z: Any = state.position
            p = state.momentum + step_size / 2 * kick(z, state.logdensity_grad)  # pyright: ignore
            cos, sin = jnp.cos(step_size), jnp.sin(step_size)
            z, p = cos * z + sin * p, cos * p - sin * z
            value, gradient = jax.value_and_grad(log_density)(z)
            return type(state)(z, p + step_size / 2 * kick(z, gradient), value, gradient)

        return one_step

    return integrator
