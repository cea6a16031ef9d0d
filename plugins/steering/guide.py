"""Guidance by the gradient of a look-ahead's reward, without weights: biased, and cheap.

    dx/dt = v - t/(1-t) grad phi_t,        phi_t(x) = g(t) lambda r(L(x, t))

It would be exact with `phi_t(x) = log E[exp(lambda r(x_0)) | x_t = x]`; no look-ahead is that. The
denoiser is right for linear rewards of Gaussian data; under curved ones it narrows the distribution
too far.

- the denoiser, `g = 1`: diffusion posterior sampling (arXiv 2209.14687), with the likelihood's own
  weight in place of the source's step by the size of the misfit;
- `covariance`: the observation's variance `noise^2 / lambda` grows by `t^2 / (t^2 + (1-t)^2)`, the
  spread of the clean example for data of unit variance (PiGDM, Song et al., ICLR 2023);
- `backward`, `repeats`: universal guidance (arXiv 2302.07121), steps of gradient ascent on the
  clean example, and every step taken again after noise has been put back.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import pick, require
from core.steering.cap import shortened
from core.steering.linear import on_linear
from core.steering.look import LOOKS, slope_cost
from core.steering.reward import Observation, Reward
from core.steering.steering import (
    Evaluations,
    Island,
    Need,
    Steering,
    Tilt,
    register_steering,
    unweighted,
)

RENORM = ("none", "rescale", "clip")


@register_steering
@dataclass(frozen=True)
class GradientGuide(Steering):
    """Gradient guidance of the probability flow. Biased: a search, not a distribution."""

    name: ClassVar[str] = "guide"
    exact: ClassVar[bool] = False
    source: ClassVar[str] = "arXiv 2209.14687, 2302.07121"

    steps: int = 50
    """Euler steps from noise to data."""
    look: str = "tweedie"
    """Look-ahead: tweedie, map or naive."""
    fade: bool | None = None
    """g = 1 - t, without which the map's guidance diverges at the noise end; else g = 1. Default:
    for map and naive."""
    start: float = 0.999
    """The first time that is guided; there t / (1 - t) is finite."""
    renorm: str = "none"
    """Length of the guidance: none (as it is), rescale (the velocity's), clip (at most that). The
    last two take the meaning from --lam."""
    covariance: bool = False
    """Count the spread of the clean example into the noise of a target or mask."""
    backward: int = 0
    """Steps of gradient ascent on the clean example."""
    rate: float = 0.1
    """Length of such a step, in gradients of lambda r."""
    repeats: int = 1
    """How often each step is taken, with noise put back in between."""

    def __post_init__(self):
        require(self.steps >= 1, f"--steps must be at least 1, got {self.steps}")
        require(0 < self.start < 1, f"start must be between 0 and 1, got {self.start}")
        require(self.backward >= 0, f"backward must not be negative, got {self.backward}")
        require(self.repeats >= 1, f"repeats must be at least 1, got {self.repeats}")
        require(self.renorm in RENORM, f"renorm must be one of {', '.join(RENORM)}")
        pick({name: LOOKS[name] for name in ("map", "tweedie", "naive")}, self.look, "look-ahead")

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return frozenset({"velocity", "between", "gradient"})

    def cost(self, reward: Reward) -> Evaluations:
        del reward
        return (slope_cost(self.look) + Evaluations(0, reward=self.backward)) * (
            self.steps * self.repeats
        )

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        tilt = on_linear(tilt, self.name)
        require(
            not self.covariance or isinstance(tilt.reward, Observation),
            "guide: covariance is for the rewards target and mask alone",
        )
        key_start, key_noise = jr.split(key)
        x = tilt.noise(key_start, n)
        x = jax.vmap(lambda x, k: self.last(tilt, x, k))(x, jr.split(key_noise, n))
        return unweighted(x)

    def last(
        self, tilt: Tilt, x: Float[Array, "*shape"], key: Key[Array, ""]
    ) -> Float[Array, "*shape"]:
        """One particle at the data end."""
        path = tilt.flow_map.path
        times = jnp.linspace(min(self.start, path.t_max), path.t_min, self.steps + 1)
        again = jnp.arange(self.steps * self.repeats) % self.repeats < self.repeats - 1
        t, u = (jnp.repeat(part, self.repeats) for part in (times[:-1], times[1:]))

        def step(x, now):
            t, u, again, key = now
            moved = x - (t - u) * self.velocity(tilt, x, t)
            fade = (1 - t) / (1 - u)
            spread = jnp.sqrt(t**2 - (fade * u) ** 2)
            noised = fade * moved + spread * jr.normal(key, x.shape, x.dtype)
            return jnp.where(again, noised, moved), None

        return jax.lax.scan(step, x, (t, u, again, jr.split(key, len(t))))[0]

    def velocity(
        self, tilt: Tilt, x: Float[Array, "*shape"], t: Float[Array, ""]
    ) -> Float[Array, "*shape"]:
        """The guided velocity."""
        slope, ahead = jax.grad(lambda y: self.potential(tilt, y, t), has_aux=True)(x)
        if self.look == "tweedie":
            v = (x - ahead) / t
        else:
            v = tilt.flow_map.velocity(x, t, tilt.cond)
        guidance = t / (1 - t) * slope
        size = jnp.sqrt(jnp.sum(v**2))
        if self.renorm == "rescale":
            guidance = guidance * size / jnp.maximum(jnp.sqrt(jnp.sum(guidance**2)), 1e-30)
        elif self.renorm == "clip":
            guidance = shortened(guidance, size)
        v = v - guidance
        return v if self.backward == 0 else v - self.ascent(tilt, x - t * v) / t

    def potential(
        self, tilt: Tilt, x: Float[Array, "*shape"], t: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, "*shape"]]:
        """`phi_t(x)` and the look-ahead."""
        ahead = LOOKS[self.look](tilt.flow_map, x, t, tilt.cond)
        value = tilt.log_tilt(ahead)
        fade = self.look != "tweedie" if self.fade is None else self.fade
        if fade:
            value = (1 - t) * value
        if self.covariance and isinstance(tilt.reward, Observation):
            variance = tilt.reward.noise**2 / tilt.strength
            value = value * variance / (variance + t**2 / (t**2 + (1 - t) ** 2))
        return value, ahead

    def ascent(self, tilt: Tilt, x_0: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """How far steps of gradient ascent on `lambda r` move a clean example."""

        def climb(i, y):
            del i
            return y + self.rate * jax.grad(tilt.log_tilt)(y)

        return jax.lax.fori_loop(0, self.backward, climb, x_0) - x_0
