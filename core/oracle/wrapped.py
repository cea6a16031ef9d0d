"""Wrapped normal distributions on circles and tori."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from core.flow.interpolant import Time
from core.flow.series import sinc
from core.flow.space import Space
from core.flow.torus import Torus, wrap
from core.oracle.isometry import Isometry
from core.oracle.on_space import SpaceProblem

MODES = 48
"""Terms of the series: to double precision for deviations of 0.18 and more."""
NODES = 24
"""Nodes of a quadrature over one angle."""


class WrappedNormal(SpaceProblem):
    """Independent angles, each normal and wrapped: `a_m = exp(-m^2 std^2 / 2)`.

    Here `x_t = x_0 + t delta` with `delta` uniform and independent of `x_0`, so that every angle
    has the Fourier coefficients `a_m sinc(pi m t)`, and the continuity equation gives the flux.

    **Fields:** `mean` (*k, d), `std` (*k, d), at least 0.18.
    """

    mean: Float[Array, "*k d"]
    std: Float[Array, "*k d"]

    @property
    def space(self) -> Space:
        return Torus()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def log_volume(self) -> float:
        return self.mean.shape[-1] * math.log(2 * math.pi)

    def sample(self, key: PRNGKeyArray) -> Float[Array, " d"]:
        return wrap(self.mean + self.std * jr.normal(key, self.mean.shape, self.mean.dtype))

    def density_and_flux(
        self, x: Float[Array, " d"], t: Time
    ) -> tuple[Float[Array, ""], Float[Array, " d"]]:
        m = jnp.arange(1, MODES)[:, None]
        t = jnp.asarray(t, x.dtype)
        b, db_dt = jax.jvp(lambda u: sinc(jnp.pi * m * u), (t,), (jnp.ones_like(t),))
        a, angle = jnp.exp(-((m * self.std[None]) ** 2) / 2), m * (x - self.mean)[None]
        densities = 1 + 2 * jnp.sum(a * b * jnp.cos(angle), axis=0)
        velocity = -2 * jnp.sum(a * db_dt / m * jnp.sin(angle), axis=0) / densities
        density = jnp.prod(densities)
        return density, density * velocity

    def pair_velocities(
        self, x: Float[Array, " d"]
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        grids = np.meshgrid(*[np.pi * nodes] * len(x), indexing="ij")
        shares = np.prod(np.meshgrid(*[weights / 2] * len(x), indexing="ij"), axis=0)
        velocities = np.stack(grids, axis=-1).reshape(-1, len(x))
        return jnp.asarray(velocities), jnp.asarray(shares.reshape(-1))

    def moved(self, key: Key[Array, ""]) -> tuple[SpaceProblem, Isometry]:
        d, dtype = self.mean.shape[-1], self.mean.dtype
        shift = self.space.uniform(key, (d,)).astype(dtype)
        mean = wrap(self.mean + jnp.broadcast_to(shift, self.mean.shape))
        return WrappedNormal(mean, self.std), Isometry(self.space, jnp.eye(d, dtype=dtype), shift)
