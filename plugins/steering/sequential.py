"""Sequential Monte Carlo with discrete kernels: the common part of `smc`, `fk` and `tds`.

A particle moves from `t` to `u` by a Gaussian kernel `N(mu(x), tau^2)` of the untilted chain,
shifted by `delta`. A potential `phi` stands for the reward to come, and its gains are weights:

    x' = mu + delta + tau xi
    log w += phi_u(x') - phi_t(x) + (|x' - mu - delta|^2 - |x' - mu|^2) / (2 tau^2)

The last step is without noise, and its potential is `lambda r(x_0)` itself. So
`E[exp(log Z)] = E_chain[exp(lambda r(x_0))]` for every number of particles, whatever the potential,
its randomness (which a particle keeps, in `phi`), the shift or the reward.
"""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import require
from core.flow.path import gaussian
from core.overriding import overridable
from core.steering.kernels import Kernel, Renoise, make_kernel
from core.steering.look import Look, make_look
from core.steering.steering import (
    Evaluations,
    Island,
    Need,
    Steering,
    Tilt,
)
from core.steering.weights import Resampler, effective, log_mean


class Particle(NamedTuple):
    """A state, its look-ahead (a clean example), and its potential.

    **Fields:** `memory`, what a potential keeps of the past; `slope`, the gradient of the potential
    at `x`, where the method wants it.
    """

    x: Float[Array, "*shape"]
    ahead: Float[Array, "*shape"]
    phi: Float[Array, ""]
    memory: Float[Array, ""] | None = None
    slope: Float[Array, "*shape"] | None = None


@dataclass(frozen=True)
class Sequential(Steering):
    """Particles along a chain of `steps` kernels, resampled on the way."""

    exact: ClassVar[bool] = True
    normalises: ClassVar[bool] = True

    steps: int = 8
    """Steps from noise to data."""
    threshold: float = 0.5
    """Resample below this share of effective particles; 0 never, above 1 always."""

    def __post_init__(self):
        require(self.steps >= 1, f"--steps must be at least 1, got {self.steps}")
        require(self.threshold >= 0, f"threshold must not be negative, got {self.threshold}")

    @property
    @abc.abstractmethod
    def look_at(self) -> Look:
        """The look-ahead."""

    @property
    @abc.abstractmethod
    def base(self) -> Kernel:
        """The kernel of the untilted chain."""

    @abc.abstractmethod
    def scored(
        self,
        tilt: Tilt,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        key: Key[Array, ""],
        before: Particle | None,
    ) -> Particle:
        """The particle at `x` with its potential; `before` is the one that it came from, if any."""

    @overridable
    def shift(
        self,
        tilt: Tilt,
        particle: Particle,
        mu: Float[Array, "*shape"],
        tau: Float[Array, ""],
        u: Float[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        """`delta / tau`; none, unless overridden."""
        del tilt, particle, tau, u, key
        return jnp.zeros_like(mu)

    def resampler(self) -> Callable[..., tuple]:
        """The choice of survivors: called like a `Resampler`."""
        return Resampler(self.threshold)

    def chain_needs(self, *, gradient: bool) -> frozenset[Need]:
        """Those of its look-aheads and steps, and the reward's gradient where it is taken."""
        found: set[Need] = {"between"} if self.steps > 1 else set()
        if gradient:
            found.add("gradient")
        if self.look_at.of_velocity or not isinstance(self.base, Renoise):
            found.add("velocity")
        return frozenset(found)

    def chain_cost(self) -> Evaluations:
        """Without gradients."""
        own = (self.steps - 1) * (not self.base.known(self.look_at, last=False))
        own += not self.base.known(self.look_at, last=True)
        return self.look_at.cost() * self.steps + self.base.cost() * own + Evaluations(0, reward=1)

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        times = tilt.times(self.steps)
        key_start, key_first, key_steps = jr.split(key, 3)
        resample = self.resampler()
        score = tilt.each(lambda y, k: self.scored(tilt, y, times[0], k, None))
        particles = score(tilt.noise(key_start, n), jr.split(key_first, n))
        # Weights start at the first potential; later gains are differences of potentials, so that
        # they add up to the reward of the sample.
        state = particles, particles.phi, jnp.zeros(()), jnp.arange(n)

        def step(state, now):
            particles, log_w, log_z, ancestors = state
            t, u, key = now
            key_move, key_choice = jr.split(key)
            move = tilt.each(lambda particle, k: self.move(tilt, particle, t, u, k))
            particles, gain = move(particles, jr.split(key_move, n))
            log_w = log_w + gain
            ess = effective(log_w)
            index, log_w, more, _ = resample(key_choice, log_w)
            particles = jax.tree.map(lambda leaf: leaf[index], particles)
            return (particles, log_w, log_z + more, ancestors[index]), ess

        inner = times[:-2], times[1:-1], jr.split(key_steps, self.steps - 1)
        state, ess = jax.lax.scan(step, state, inner)
        particles, log_w, log_z, ancestors = state
        finish = tilt.each(lambda particle: self.finish(tilt, particle, times[-2], times[-1]))
        # No resampling after the last step: the weights are part of the answer.
        x_0, gain = finish(particles)
        log_w = log_w + gain
        ess = jnp.append(ess, effective(log_w))
        return Island(x_0, log_w, log_z + log_mean(log_w), ess, ancestors)

    def move(
        self,
        tilt: Tilt,
        particle: Particle,
        t: Float[Array, ""],
        u: Float[Array, ""],
        key: Key[Array, ""],
    ) -> tuple[Particle, Float[Array, ""]]:
        """One step from `t` to `u`, and the increment of the log weight."""
        key_noise, key_shift, key_look = jr.split(key, 3)
        predicted = self.predicted(tilt, particle, t, u, last=False)
        mu, tau = self.base.step(gaussian(tilt.flow_map.path), particle.x, predicted, t, u)
        xi = jr.normal(key_noise, mu.shape)
        shift = self.shift(tilt, particle, mu, tau, u, key_shift)
        moved = self.scored(tilt, mu + tau * (shift + xi), u, key_look, particle)
        # The log ratio of the plain kernel's density to the shifted one's: it makes any shift
        # exact.
        density = -jnp.sum(shift * xi) - jnp.sum(shift**2) / 2
        return moved, moved.phi - particle.phi + density

    def predicted(
        self,
        tilt: Tilt,
        particle: Particle,
        t: Float[Array, ""],
        u: Float[Array, ""],
        *,
        last: bool,
    ) -> Float[Array, "*shape"]:
        """The kernel's prediction, from the look-ahead where that is the same."""
        if self.base.known(self.look_at, last):
            return particle.ahead
        return self.base.prediction(tilt.flow_map, particle.x, t, u, tilt.cond)

    def finish(
        self, tilt: Tilt, particle: Particle, t: Float[Array, ""], u: Float[Array, ""]
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        """The sample, and the last increment of the log weight."""
        predicted = self.predicted(tilt, particle, t, u, last=True)
        x_0 = self.base.finish(gaussian(tilt.flow_map.path), particle.x, predicted, t, u)
        return x_0, tilt.log_tilt(x_0) - particle.phi


@dataclass(frozen=True)
class Looking(Sequential):
    """A chain and a look-ahead of the user's choice."""

    look: str = "map"
    """Look-ahead: map (the flow map, or the ODE's end where a run has no map), tweedie, naive or
    posterior (draws by an inner flow)."""
    kernel: str = "renoise"
    """Step of the chain: renoise (jump and renoise), ancestral or em (Euler-Maruyama)."""
    rho: float = 0.0
    """renoise: where a step jumps to before it is renoised, rho u; 0 is all the way to the data."""
    churn: float = 1.0
    """em: noise of the SDE, eps_t = churn t."""
    draws: int = 4
    """posterior: draws from each state."""
    inner: int = 8
    """posterior: evaluations of the velocity for each draw."""

    def __post_init__(self):
        super().__post_init__()
        _ = self.look_at, self.base  # raises for a wrong setting

    @property
    def look_at(self) -> Look:
        return make_look(self.look, self.draws, self.inner)

    @property
    def base(self) -> Kernel:
        return make_kernel(self.kernel, rho=self.rho, churn=self.churn)
