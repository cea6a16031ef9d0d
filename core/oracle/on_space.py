"""Distributions on spaces with exact marginals of the geodesics to uniform noise."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key, PRNGKeyArray

from core.flow.interpolant import GeodesicPath, Time
from core.flow.space import Space
from core.oracle.isometry import Isometry
from core.overriding import overridable


class SpaceProblem(eqx.Module):
    """A distribution of `x_0` on a space, with the marginals and the velocity of the geodesic path
    `x_t = exp_x_0(t log_x_0(z))`, `z` uniform and independent.

    One example; `jax.vmap` stands outside. Densities are relative to the uniform distribution.
    """

    @property
    @abc.abstractmethod
    def space(self) -> Space:
        """The space."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        """Draws one `x_0`."""

    @abc.abstractmethod
    def density_and_flux(
        self, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, ""], Float[Array, "*shape"]]:
        """`(p_t(x), p_t(x) v(x, t))`, the density relative to the uniform one."""

    @property
    @abc.abstractmethod
    def log_volume(self) -> float:
        """The logarithm of the volume of the space, for `log_prob`."""

    @overridable
    def velocity(self, x: Float[Array, "*shape"], t: Time) -> Float[Array, "*shape"]:
        """`v(x, t)`, the marginal velocity."""
        density, flux = self.density_and_flux(x, t)
        return flux / density

    @overridable
    def pair_velocities(
        self, x: Float[Array, "*shape"]
    ) -> tuple[Float[Array, " n *shape"], Float[Array, " n"]]:
        """Nodes and weights for the mean over `v = -log_x(z)` of uniform `z`: the velocities at `x`
        of pairs of the uniform distribution. For the order of a finite step alone."""
        raise NotImplementedError(f"{type(self).__name__} has no quadrature over pairs")

    def posterior_velocities(
        self, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, " n *shape"], Float[Array, " n"]]:
        """Nodes and weights, of sum 1, for means over the conditional velocity given `x_t = x`.

        The pair is `x_0 = exp_x(-t v)`, `z = exp_x((1 - t) v)`: uniform pairs, weighted by the
        density of `x_0`.
        """
        velocities, weights = self.pair_velocities(x)
        x_0 = jax.vmap(lambda v: self.space.exp(x, -t * v))(velocities)
        weights = weights * jax.vmap(lambda y: self.density_and_flux(y, 0.0)[0])(x_0)
        return velocities, weights / jnp.sum(weights)

    @overridable
    def moved(self, key: Key[Array, ""]) -> "tuple[SpaceProblem, Isometry] | None":
        """The distribution moved by a random isometry, and that; None where none is known."""
        del key
        return None

    def log_prob(self, x: Float[Array, "*shape"], t: Time) -> Float[Array, ""]:
        """`log p_t(x)`, the log density of the marginal with respect to the volume."""
        return jnp.log(self.density_and_flux(x, t)[0]) - self.log_volume

    @property
    def path(self) -> GeodesicPath:
        """The path on which all this is exact."""
        return GeodesicPath(manifold=self.space)


class SpaceMixture(SpaceProblem):
    """`x_0` is of component `k` with probability `weights_k`: `p v` is the mean of the components'.

    With unlike centres nothing is symmetric any more, so it exposes bias and missing curvature.
    The flow map has no closed form; `SpaceMap` integrates it. **Fields:** `weights` (k,), positive
    with sum 1; `components`, whose arrays have a leading axis k.
    """

    weights: Float[Array, " k"]
    components: SpaceProblem

    @property
    def space(self) -> Space:
        return self.components.space

    @property
    def shape(self) -> tuple[int, ...]:
        return self.components.shape[1:]

    @property
    def log_volume(self) -> float:
        return self.components.log_volume

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        key_component, key_point = jr.split(key)
        k = jr.categorical(key_component, jnp.log(self.weights))
        return jax.tree.map(lambda leaf: leaf[k], self.components).sample(key_point)

    def density_and_flux(
        self, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, ""], Float[Array, "*shape"]]:
        densities, fluxes = jax.vmap(lambda one: one.density_and_flux(x, t))(self.components)
        return self.weights @ densities, jnp.tensordot(self.weights, fluxes, 1)

    def pair_velocities(
        self, x: Float[Array, "*shape"]
    ) -> tuple[Float[Array, " n *shape"], Float[Array, " n"]]:
        return jax.tree.map(lambda leaf: leaf[0], self.components).pair_velocities(x)

    def moved(self, key: Key[Array, ""]) -> "tuple[SpaceProblem, Isometry] | None":
        found = self.components.moved(key)
        return None if found is None else (SpaceMixture(self.weights, found[0]), found[1])
