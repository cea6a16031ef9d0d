"""Sequential Monte Carlo with discrete kernels: exact for its chain with any look-ahead.

A particle moves from `t` to `u` by a Gaussian kernel `N(mu(x), tau^2)` of the untilted chain,
shifted by `delta`; potentials `phi_t(x) = g(t) lambda r(L(x, t))` with `g = 1 - t` look ahead:

    x' = mu + delta + tau xi,      delta = tau^2 grad phi_u(mu), |delta| <= tau sqrt(2 kl)
    log w += phi_u(x') - phi_t(x) + (|x' - mu - delta|^2 - |x' - mu|^2) / (2 tau^2)

The last step has no noise and no shift. `E[exp(log Z)] = E_chain[exp(lambda r(x_0))]` for every
number of particles, whatever the look-ahead, the cap or the reward.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import require
from core.plugin import pick
from core.steering.look import LOOKS, Jump
from core.steering.reward import Reward
from core.steering.steering import Cost, Island, Steering, Tilt, register_steering
from core.steering.weights import Resampler, effective, log_mean


class Particle(NamedTuple):
    """A state, the clean example that it is judged by, and its potential."""

    x: Float[Array, "*shape"]
    ahead: Float[Array, "*shape"]
    phi: Float[Array, ""]


@register_steering
@dataclass(frozen=True)
class SMC(Steering):
    """Twisted sequential Monte Carlo over renoised jumps: the one to start with."""

    name: ClassVar[str] = "smc"
    exact: ClassVar[bool] = True
    normalises: ClassVar[bool] = True
    source: ClassVar[str] = "arXiv 2306.17775, 2501.06848, 2511.22688"

    steps: int = 8
    """Steps from noise to data."""
    look: str = "map"
    """Look-ahead: map (the flow map, or the ODE's end where a run has no map), tweedie or naive."""
    rho: float = 0.0
    """Where a step jumps to before it is renoised: rho u; 0 is all the way to the data."""
    twist: bool | None = None
    """Shift each step by the gradient of the next potential; default: where the reward has one."""
    twist_kl: float = 0.5
    """Most that a shift may cost, in nats a step."""
    threshold: float = 0.5
    """Resample below this share of effective particles."""

    def __post_init__(self):
        require(self.steps >= 1, f"--steps must be at least 1, got {self.steps}")
        require(0 <= self.rho < 1, f"--rho must be in [0, 1), got {self.rho}")
        pick(LOOKS, self.look, "look-ahead")

    def needs_gradient(self, reward: Reward) -> bool:
        return self.steps > 1 and (reward.differentiable if self.twist is None else self.twist)

    def cost(self, reward: Reward) -> Cost:
        look, inner = LOOKS[self.look], self.steps - 1
        shared = self.rho == 0 and isinstance(look, Jump)  # the look-ahead is the kernel's mean
        forward = self.steps * look.evaluations + (0 if shared else self.steps)
        twists = inner * self.needs_gradient(reward)
        backward = forward_too = twists * look.evaluations
        return Cost(forward + forward_too, backward, self.steps + 1 + twists)

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        times = jax.vmap(tilt.flow_map.path.time_of_unit)(jnp.linspace(1.0, 0.0, self.steps + 1))
        key_start, key_steps = jr.split(key)
        resampler = Resampler(self.threshold)
        x = tilt.noise(key_start, n)
        particles = jax.vmap(lambda y: self.judged(tilt, y, times[0]))(x)
        state = particles, particles.phi, jnp.zeros(()), jnp.arange(n)

        def step(state, now):
            particles, log_w, log_z, ancestors = state
            t, u, key = now
            key_move, key_choice = jr.split(key)
            move = jax.vmap(lambda particle, k: self.move(tilt, particle, t, u, k))
            particles, gain = move(particles, jr.split(key_move, n))
            log_w = log_w + gain
            ess = effective(log_w)
            index, log_w, more, _ = resampler(key_choice, log_w)
            particles = jax.tree.map(lambda leaf: leaf[index], particles)
            return (particles, log_w, log_z + more, ancestors[index]), ess

        inner = times[:-2], times[1:-1], jr.split(key_steps, self.steps - 1)
        state, ess = jax.lax.scan(step, state, inner)
        particles, log_w, log_z, ancestors = state
        x_0 = jax.vmap(lambda particle: self.finish(tilt, particle, times[-2]))(particles)
        log_w = log_w + jax.vmap(tilt.log_tilt)(x_0) - particles.phi
        ess = jnp.append(ess, effective(log_w))
        return Island(x_0, log_w, log_z + log_mean(log_w), ess, ancestors)

    def judged(self, tilt: Tilt, x: Float[Array, "*shape"], t: Float[Array, ""]) -> Particle:
        """A state with its look-ahead and its potential `g(t) lambda r(L(x, t))`."""
        ahead = LOOKS[self.look](tilt.flow_map, x, t, tilt.cond)
        remaining = 1 - tilt.flow_map.path.unit_time(t)
        return Particle(x, ahead, remaining * tilt.log_tilt(ahead))

    def move(
        self,
        tilt: Tilt,
        particle: Particle,
        t: Float[Array, ""],
        u: Float[Array, ""],
        key: Key[Array, ""],
    ) -> tuple[Particle, Float[Array, ""]]:
        """One step from `t` to `u`, and what it adds to the log weight."""
        mu, tau = self.kernel(tilt, particle, t, u)
        xi = tilt.flow_map.path.noise(key, mu.shape) / tilt.flow_map.path.noise_std
        shift = jnp.zeros_like(mu)
        if self.needs_gradient(tilt.reward):
            slope = jax.grad(lambda y: self.judged(tilt, y, u).phi)(mu)
            shift = _capped(tau * slope, jnp.sqrt(2 * self.twist_kl))
        moved = self.judged(tilt, mu + tau * (shift + xi), u)
        density = -jnp.sum(shift * xi) - jnp.sum(shift**2) / 2
        return moved, moved.phi - particle.phi + density

    def kernel(
        self, tilt: Tilt, particle: Particle, t: Float[Array, ""], u: Float[Array, ""]
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        """`(mu, tau)`: the jump to `w = rho u`, renoised to `u`. It keeps the marginals of an exact
        map at any number of steps."""
        path = tilt.flow_map.path
        w = path.time_of_unit(self.rho * path.unit_time(u))
        if self.rho == 0:
            arrived = self.finish(tilt, particle, t)
        else:
            arrived = tilt.flow_map(particle.x, t, w, tilt.cond)
        fade = path.alpha(u) / path.alpha(w)
        variance = path.sigma(u) ** 2 - (fade * path.sigma(w)) ** 2
        return fade * arrived, path.noise_std * jnp.sqrt(jnp.maximum(variance, 0.0))

    def finish(self, tilt: Tilt, particle: Particle, t: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`F(x, t, 0)`, which the map's look-ahead knows already."""
        if isinstance(LOOKS[self.look], Jump):
            return particle.ahead
        return Jump()(tilt.flow_map, particle.x, t, tilt.cond)


def _capped(vector: Float[Array, "*shape"], most: Float[Array, ""]) -> Float[Array, "*shape"]:
    """The vector, shortened to the length `most`; zero where it is not finite."""
    length = jnp.sqrt(jnp.sum(vector**2))
    shorter = vector * jnp.minimum(1.0, most / jnp.maximum(length, 1e-30))
    return jnp.where(jnp.isfinite(length), shorter, 0.0)
