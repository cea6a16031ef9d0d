"""Twisted diffusion: the denoiser's reward as potential, and its gradient at the old state.

    phi_t(x) = lambda r(D(x, t)),      delta = tau^2 grad phi_t(x_t)

Exact for Gaussian data and a linear reward; with few steps the gradient at the next mean, as `smc`
takes it, does better. See `plugins.steering.sequential` for the weights.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import pick, require
from core.steering.cap import shortened
from core.steering.kernels import Kernel, make_kernel
from core.steering.look import Look, Tweedie, look_ahead
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Need,
    Tilt,
    register_steering,
)
from plugins.steering.sequential import Particle, Sequential


@register_steering
@dataclass(frozen=True)
class TDS(Sequential):
    """Twisted diffusion: small ancestral steps along the gradient of the denoiser's reward."""

    name: ClassVar[str] = "tds"
    source: ClassVar[str] = "arXiv 2306.17775"

    steps: int = 50
    """Steps from noise to data; they should be small."""
    kernel: str = "ancestral"
    """Step of the chain: ancestral or em (Euler-Maruyama)."""
    churn: float = 1.0
    """em: noise of the SDE, eps_t = churn t."""
    twist_kl: float = float("inf")
    """Most that a shift may cost, in nats a step; published without a limit, with heavy tails."""

    def __post_init__(self):
        super().__post_init__()
        pick({"ancestral": 0, "em": 0}, self.kernel, "kernel of tds")
        require(self.twist_kl >= 0, f"twist_kl must not be negative, got {self.twist_kl}")
        _ = self.base  # raises for a wrong setting

    @property
    def look_at(self) -> Look:
        return Tweedie()

    @property
    def base(self) -> Kernel:
        return make_kernel(self.kernel, churn=self.churn)

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return self.chain_needs(gradient=True)

    def cost(self, reward: Reward) -> Evaluations:
        """One pass gives the potential, its gradient, and the kernel's mean."""
        del reward
        return self.look_at.cost().with_gradient() * self.steps + Evaluations(0, reward=1)

    def scored(
        self,
        tilt: Tilt,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        key: Key[Array, ""],
        before: Particle | None,
    ) -> Particle:
        del before

        def potential(y: Float[Array, "*shape"]) -> tuple[Array, Array]:
            ahead, value = look_ahead(self.look_at, tilt, y, t, key)
            return value, ahead

        (phi, ahead), slope = jax.value_and_grad(potential, has_aux=True)(x)
        return Particle(x, ahead, phi, slope=slope)

    def shift(
        self,
        tilt: Tilt,
        particle: Particle,
        mu: Float[Array, "*shape"],
        tau: Float[Array, ""],
        u: Float[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        del tilt, mu, u, key
        assert particle.slope is not None
        return shortened(tau * particle.slope, jnp.sqrt(2 * jnp.asarray(self.twist_kl)))
