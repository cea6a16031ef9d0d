"""Mixtures of isotropic Gaussians in any dimension, and finite data sets as mixtures of points."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.path import Path, Time
from core.oracle.problem import Problem


class Posterior(eqx.Module):
    """The components of `x_0 | x_t`.

    **Fields:** `log_weights` (k,), up to a constant; `x_0` and `z` (k, *shape), their means;
    `widths` (k,), standard deviations of `x_0` over that of the noise in `x_t`.
    """

    log_weights: Float[Array, " k"]
    x_0: Float[Array, " k *shape"]
    z: Float[Array, " k *shape"]
    widths: Float[Array, " k"]


class GaussianMixture(Problem):
    """`x_0 ~ sum_k weights_k N(means_k, stds_k^2 I)` in any dimension.

    Widths may be 0, which makes points of mass (see `finite_data`); these need `sigma > 0`, and
    where `sigma` is so small that its square vanishes the posterior noise is taken as 0. The
    flow map has no closed form; `OracleMap` integrates it.

    **Fields:** `weights` (k,), positive with sum 1; `means` (k, *shape); `stds` (k,).
    """

    weights: Float[Array, " k"]
    means: Float[Array, " k *shape"]
    stds: Float[Array, " k"]

    def __check_init__(self):
        if not self.weights.shape == self.stds.shape == self.means.shape[:1]:
            raise ValueError(
                f"GaussianMixture needs weights (k,), means (k, *shape) and stds (k,), got "
                f"{self.weights.shape}, {self.means.shape} and {self.stds.shape}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.means.shape[1:]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        key_component, key_noise = jr.split(key)
        k = jr.categorical(key_component, jnp.log(self.weights))
        noise = jr.normal(key_noise, self.shape, self.means.dtype)
        return self.means[k] + self.stds[k] * noise

    def posterior_means(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        variances, offsets = self._marginals(path, x, t)
        posterior = jax.nn.softmax(self._log_joint(variances, offsets))
        shrunk = posterior / variances
        noise = path.noise_std**2 * path.sigma(t) * jnp.tensordot(shrunk, offsets, 1)
        pull = jnp.tensordot(path.alpha(t) * self.stds**2 * shrunk, offsets, 1)
        return jnp.tensordot(posterior, self.means, 1) + pull, noise

    def posterior(self, path: Path, x: Float[Array, "*shape"], t: Time) -> "Posterior":
        """The components of `x_0 | x_t = x`. Needs widths, or `sigma > 0`."""
        variances, offsets = self._marginals(path, x, t)
        columns = (-1, *(1,) * x.ndim)
        shrunk = offsets / variances.reshape(columns)
        return Posterior(
            log_weights=self._log_joint(variances, offsets),
            x_0=self.means + path.alpha(t) * self.stds.reshape(columns) ** 2 * shrunk,
            z=path.noise_std**2 * path.sigma(t) * shrunk,
            widths=self.stds / jnp.sqrt(variances),
        )

    def sample_posterior(
        self, path: Path, key: PRNGKeyArray, x: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        key_component, key_noise = jr.split(key)
        variances, offsets = self._marginals(path, x, t)
        k = jr.categorical(key_component, self._log_joint(variances, offsets))
        mean = self.means[k] + path.alpha(t) * self.stds[k] ** 2 / variances[k] * offsets[k]
        std = self.stds[k] * path.noise_std * path.sigma(t) / jnp.sqrt(variances[k])
        return mean + std * jr.normal(key_noise, self.shape, self.means.dtype)

    def log_prob(self, path: Path, x: Float[Array, "*shape"], t: Time) -> Float[Array, ""]:
        variances, offsets = self._marginals(path, x, t)
        return jax.nn.logsumexp(self._log_joint(variances, offsets)) - 0.5 * x.size * jnp.log(
            2 * jnp.pi
        )

    def _marginals(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, " k"], Float[Array, " k *shape"]]:
        """Variances of the components of `x_t`, and `x` minus their centres."""
        variances = (path.alpha(t) * self.stds) ** 2 + (path.noise_std * path.sigma(t)) ** 2
        floor = jnp.finfo(self.means.dtype).eps ** 2  # keeps points of mass finite at sigma = 0
        return jnp.maximum(variances, floor), x[None] - path.alpha(t) * self.means

    def _log_joint(
        self, variances: Float[Array, " k"], offsets: Float[Array, " k *shape"]
    ) -> Float[Array, " k"]:
        """`log(weight_k p_t(x | k))` up to the constant `dim log(2 pi) / 2`."""
        offsets = offsets.reshape(offsets.shape[0], -1)
        squares = jnp.sum(offsets**2, axis=1)
        log_density = -0.5 * (squares / variances + offsets.shape[1] * jnp.log(variances))
        return jnp.log(self.weights) + log_density


def eight_gaussians(radius: float = 2.0, std: float = 0.2) -> GaussianMixture:
    """Eight equal Gaussians on a circle in the plane."""
    angles = jnp.arange(8) * (jnp.pi / 4)
    means = radius * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    return GaussianMixture(jnp.full(8, 1 / 8), means, jnp.full(8, std))


def finite_data(points: Float[Array, " n *shape"]) -> GaussianMixture:
    """The data set itself as the distribution: equal point masses on its examples.

    `E[x_0 | x_t]` is then the softmax-weighted mean of the examples. Needs `sigma > 0`; towards
    the data end the trajectories collapse onto the examples.
    """
    n = points.shape[0]
    return GaussianMixture(jnp.full(n, 1 / n, points.dtype), points, jnp.zeros(n, points.dtype))
