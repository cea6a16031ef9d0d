"""Gaussian data of any covariance, and its degenerate case, a single point."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.path import Path, Time
from core.oracle.problem import ClosedProblem


class GaussianProblem(ClosedProblem):
    """`x_0 ~ N(mean, covariance)`: a linear flow map, in closed form on every path.

    All marginal covariances `S_t = alpha^2 covariance + (noise_std sigma)^2 I` have the same
    eigenvectors, so

        F(x, s, t) = alpha_t mean + S_t^(1/2) S_s^(-1/2) (x - alpha_s mean).

    Its posteriors are symmetric, so it cannot expose a bias that comes from their skewness. With
    `mean = 0`, `covariance = noise_std^2 I` on a variance-preserving path the velocity is zero:
    do not test signs on that.

    **Arguments:** `mean` (dim,); `covariance` (dim, dim), symmetric positive definite.
    """

    mean: Float[Array, " dim"]
    variances: Float[Array, " dim"]
    axes: Float[Array, "dim dim"]

    def __init__(self, mean: Float[Array, " dim"], covariance: Float[Array, "dim dim"]):
        if mean.ndim != 1 or covariance.shape != mean.shape * 2:
            raise ValueError(
                f"GaussianProblem needs a mean (dim,) and a covariance (dim, dim), got "
                f"{mean.shape} and {covariance.shape}."
            )
        self.mean = mean
        self.variances, self.axes = jnp.linalg.eigh(covariance)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        return self.mean + self._spread(jnp.sqrt(self.variances), key)

    def posterior_means(
        self, path: Path, x: Float[Array, " dim"], t: Time
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        centred = self._to_axes(x - path.alpha(t) * self.mean)
        centred = centred / self._marginal_variances(path, t)
        x_0 = self.mean + self._from_axes(path.alpha(t) * self.variances * centred)
        return x_0, self._from_axes(path.noise_std**2 * path.sigma(t) * centred)

    def sample_posterior(
        self, path: Path, key: PRNGKeyArray, x: Float[Array, " dim"], t: Time
    ) -> Float[Array, " dim"]:
        shrink = path.noise_std * path.sigma(t) / jnp.sqrt(self._marginal_variances(path, t))
        return self.x_0_mean(path, x, t) + self._spread(jnp.sqrt(self.variances) * shrink, key)

    def log_prob(self, path: Path, x: Float[Array, " dim"], t: Time) -> Float[Array, ""]:
        centred = self._to_axes(x - path.alpha(t) * self.mean)
        variances = self._marginal_variances(path, t)
        return -0.5 * jnp.sum(centred**2 / variances + jnp.log(2 * jnp.pi * variances))

    def average_velocity(
        self, path: Path, x: Float[Array, " dim"], s: Time, t: Time
    ) -> Float[Array, " dim"]:
        # The slope of a marginal std is the slope of its square over the sum of the stds.
        std_s = jnp.sqrt(self._marginal_variances(path, s))
        std_t = jnp.sqrt(self._marginal_variances(path, t))
        alpha_slope, sigma_slope = path.alpha_slope(s, t), path.sigma_slope(s, t)
        variance_slope = self.variances * (path.alpha(s) + path.alpha(t)) * alpha_slope
        variance_slope += path.noise_std**2 * (path.sigma(s) + path.sigma(t)) * sigma_slope
        centred = self._to_axes(x - path.alpha(s) * self.mean)
        stretched = variance_slope / (std_s * (std_s + std_t)) * centred
        return alpha_slope * self.mean + self._from_axes(stretched)

    def given_state(self, path: Path, x: Float[Array, " dim"], t: Time) -> "GaussianProblem":
        """`N(E[x_0 | x_t = x], (noise_std sigma)^2 C S_t^(-1))`."""
        share = (path.noise_std * path.sigma(t)) ** 2 / self._marginal_variances(path, t)
        return self._moved(self.x_0_mean(path, x, t), self.variances * share)

    def tilted(self, a: Float[Array, " dim"]) -> "GaussianProblem":
        """`N(m + C a, C)`."""
        return self._moved(
            self.mean + self._from_axes(self.variances * self._to_axes(a)), self.variances
        )

    def _moved(
        self, mean: Float[Array, " dim"], variances: Float[Array, " dim"]
    ) -> "GaussianProblem":
        return eqx.tree_at(lambda p: (p.mean, p.variances), self, (mean, variances))

    def _marginal_variances(self, path: Path, t: Time) -> Float[Array, " dim"]:
        return path.alpha(t) ** 2 * self.variances + (path.noise_std * path.sigma(t)) ** 2

    def _spread(self, stds: Float[Array, " dim"], key: PRNGKeyArray) -> Float[Array, " dim"]:
        return self._from_axes(stds * jr.normal(key, stds.shape, stds.dtype))

    def _to_axes(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        return x @ self.axes

    def _from_axes(self, x: Float[Array, " dim"]) -> Float[Array, " dim"]:
        return self.axes @ x


class SinglePoint(ClosedProblem):
    """All data at one point: trajectories run along the rays of `z`.

    `F(x, s, t) = alpha_t point + sigma_t z` with `z = (x - alpha_s point) / sigma_s`. At
    `sigma_s = 0` only `x = point` can occur, and `z` is then taken as 0. It tests only plumbing:
    posteriors have no spread.
    """

    point: Float[Array, "*shape"]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.point.shape

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        del key
        return self.point

    def posterior_means(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        sigma = path.sigma(t)
        safe = jnp.where(sigma > 0, sigma, 1.0)
        z = jnp.where(sigma > 0, (x - path.alpha(t) * self.point) / safe, 0.0)
        return self.point, z

    def sample_posterior(
        self, path: Path, key: PRNGKeyArray, x: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        del path, key, x, t
        return self.point

    def log_prob(self, path: Path, x: Float[Array, "*shape"], t: Time) -> Float[Array, ""]:
        variance = (path.noise_std * path.sigma(t)) ** 2
        squares = (x - path.alpha(t) * self.point) ** 2
        return -0.5 * jnp.sum(squares / variance + jnp.log(2 * jnp.pi * variance))

    def average_velocity(
        self, path: Path, x: Float[Array, "*shape"], s: Time, t: Time
    ) -> Float[Array, "*shape"]:
        z = self.noise_mean(path, x, s)
        return path.alpha_slope(s, t) * self.point + path.sigma_slope(s, t) * z

    def given_state(self, path: Path, x: Float[Array, "*shape"], t: Time) -> "SinglePoint":
        del path, x, t
        return self

    def tilted(self, a: Float[Array, "*shape"]) -> "SinglePoint":
        del a
        return self
