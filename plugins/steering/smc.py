"""Twisted sequential Monte Carlo: exact for its chain with any look-ahead.

The potential is `phi_t(x) = g(t) lambda r(L(x, t))` with `g = 1 - t`, and a step is shifted by the
gradient of the next potential at its mean,

    delta = tau^2 grad phi_u(mu),      |delta| <= tau sqrt(2 kl)

A cap on the cost of a shift in nats keeps the weights from heavy tails where the gradient of the
look-ahead spikes, between modes. See `plugins.steering.sequential` for the weights.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import pick, require
from core.steering.cap import shortened
from core.steering.look import look_ahead
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Need,
    Tilt,
    register_steering,
)
from plugins.steering.sequential import Looking, Particle

SCHEDULES = {"1-t": lambda t: 1 - t, "1": jnp.ones_like}


@register_steering
@dataclass(frozen=True)
class SMC(Looking):
    """Twisted sequential Monte Carlo over renoised jumps: the one to start with."""

    name: ClassVar[str] = "smc"
    source: ClassVar[str] = "arXiv 2306.17775, 2501.06848, 2511.22688"

    g: str = "1-t"
    """Share of the look-ahead's reward that counts at time t: 1-t, or 1."""
    twist: bool | None = None
    """Shift each step by the gradient of the next potential; default: where the reward has one."""
    twist_kl: float = 0.5
    """Most that a shift may cost, in nats a step."""

    def __post_init__(self):
        super().__post_init__()
        pick(SCHEDULES, self.g, "schedule g")
        require(self.twist_kl >= 0, f"twist_kl must not be negative, got {self.twist_kl}")

    def twists(self, reward: Reward) -> bool:
        """Whether steps are shifted along the gradient of this reward."""
        return self.steps > 1 and (reward.differentiable if self.twist is None else self.twist)

    def needs(self, reward: Reward) -> frozenset[Need]:
        return self.chain_needs(gradient=self.twists(reward))

    def cost(self, reward: Reward) -> Evaluations:
        twists = (self.steps - 1) * self.twists(reward)
        return self.chain_cost() + self.look_at.cost().with_gradient() * twists

    def scored(
        self,
        tilt: Tilt,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        key: Key[Array, ""],
        before: Particle | None,
    ) -> Particle:
        del before
        ahead, value = look_ahead(self.look_at, tilt, x, t, key)
        return Particle(x, ahead, SCHEDULES[self.g](tilt.flow_map.path.unit_time(t)) * value)

    def shift(
        self,
        tilt: Tilt,
        particle: Particle,
        mu: Float[Array, "*shape"],
        tau: Float[Array, ""],
        u: Float[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        if not self.twists(tilt.reward):
            return jnp.zeros_like(mu)
        slope = jax.grad(lambda y: self.scored(tilt, y, u, key, particle).phi)(mu)
        return shortened(tau * slope, jnp.sqrt(2 * self.twist_kl))
