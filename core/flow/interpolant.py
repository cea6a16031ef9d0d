"""Interpolants `x_t` between data and noise: Gaussian paths in flat space, geodesics elsewhere."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.space import Space
from core.overriding import overridable

Time = Float[Array, ""] | float


class Interpolant(eqx.Module):
    """A curve `x_t` from an example `x_0` to a draw `z` of the noise, in a space.

    All that the three rules, jumps and training on pairs need. `core.flow.path.Path` is the
    Gaussian one: code that reads its coefficients works in flat space alone, and its type says so.
    Times are scalars in `[t_min, t_max]`, data at `t_min`.

    **Fields:** `t_min`, `t_max`, the interval of times in which it is used.
    """

    t_min: eqx.AbstractVar[float]
    t_max: eqx.AbstractVar[float]

    @property
    @abc.abstractmethod
    def space(self) -> Space:
        """The space of the states."""

    @abc.abstractmethod
    def interpolate(
        self, x_0: Float[Array, "*shape"], z: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        """The state `x_t` of the pair."""

    @abc.abstractmethod
    def conditional_velocity(
        self, x_0: Float[Array, "*shape"], z: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        """`d x_t / dt` of the pair, tangent at `x_t`: the flow-matching target."""

    @abc.abstractmethod
    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """A draw `z` of the noise."""

    @abc.abstractmethod
    def start(self, z: Float[Array, "*shape"], t: Time) -> Float[Array, "*shape"]:
        """The state at a time `t` near the noise end of which `z` is the noise, without data."""

    @overridable
    def prior(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The start of sampling, at `t_max`."""
        return self.start(self.noise(key, shape), self.t_max)

    @abc.abstractmethod
    def unit_time(self, t: Time) -> Float[Array, ""]:
        """The time in [0, 1] that networks receive, the same on every path of a process."""

    @abc.abstractmethod
    def time_of_unit(self, unit: Time) -> Float[Array, ""]:
        """The inverse of `unit_time`, clipped to `[t_min, t_max]`."""


class GeodesicPath(Interpolant):
    """`x_t = exp_x_0(t log_x_0(z))`: along the shortest geodesic, at constant speed.

    The velocity is that of the geodesic, finite at both ends. On `Euclidean` it is the linear path.
    Pairs with antipodes have no shortest geodesic; the uniform noise draws none. Source: Riemannian
    flow matching (arXiv 2302.03660), eq. 15.
    """

    manifold: Space
    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)

    @property
    def space(self) -> Space:
        return self.manifold

    def interpolate(
        self, x_0: Float[Array, "*shape"], z: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        return self.space.exp(x_0, t * self.space.log(x_0, z))

    def conditional_velocity(
        self, x_0: Float[Array, "*shape"], z: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        way = self.space.log(x_0, z)
        return self.space.push(x_0, t * way, way)

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return self.space.noise(key, shape)

    def start(self, z: Float[Array, "*shape"], t: Time) -> Float[Array, "*shape"]:
        del t
        return z

    def unit_time(self, t: Time) -> Float[Array, ""]:
        return jnp.asarray(t)

    def time_of_unit(self, unit: Time) -> Float[Array, ""]:
        return jnp.clip(unit, self.t_min, self.t_max)
