"""Problems with closed-form expectations along a path, on which methods are tested."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.path import Path, Time


class Problem(eqx.Module):
    """A distribution of data `x_0` with exact posteriors `x_0 | x_t = x` on any Gaussian path.

    One example of shape `shape`; `jax.vmap` stands outside. Every quantity is finite at the data
    end (`sigma = 0`) if the distribution has a density; for points of mass it needs `sigma > 0`.
    """

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""

    @abc.abstractmethod
    def sample(self, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        """Draws one `x_0`."""

    @abc.abstractmethod
    def posterior_means(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """`(E[x_0 | x_t = x], E[z | x_t = x])`; the second is not got by dividing the first."""

    @abc.abstractmethod
    def sample_posterior(
        self, path: Path, key: PRNGKeyArray, x: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        """Draws one `x_0` given `x_t = x`, exactly."""

    @abc.abstractmethod
    def log_prob(self, path: Path, x: Float[Array, "*shape"], t: Time) -> Float[Array, ""]:
        """`log p_t(x)`, the log density of the marginal of `x_t`."""

    def x_0_mean(self, path: Path, x: Float[Array, "*shape"], t: Time) -> Float[Array, "*shape"]:
        """`E[x_0 | x_t = x]`, the exact denoiser."""
        return self.posterior_means(path, x, t)[0]

    def noise_mean(self, path: Path, x: Float[Array, "*shape"], t: Time) -> Float[Array, "*shape"]:
        """`E[z | x_t = x]`, with `z` of standard deviation `path.noise_std`."""
        return self.posterior_means(path, x, t)[1]

    def velocity(self, path: Path, x: Float[Array, "*shape"], t: Time) -> Float[Array, "*shape"]:
        """`v(x, t) = d_alpha E[x_0 | x_t = x] + d_sigma E[z | x_t = x]`, the marginal velocity."""
        return path.conditional_velocity(*self.posterior_means(path, x, t), t)


class ClosedProblem(Problem):
    """A problem whose flow map has a closed form too, and so have its posterior given a noisy
    state and its tilt by a linear reward."""

    @abc.abstractmethod
    def average_velocity(
        self, path: Path, x: Float[Array, "*shape"], s: Time, t: Time
    ) -> Float[Array, "*shape"]:
        """`V(x_s, s, t)`, exact and differentiable also at `s = t`, where it is the velocity."""

    @abc.abstractmethod
    def given_state(self, path: Path, x: Float[Array, "*shape"], t: Time) -> "ClosedProblem":
        """The distribution of `x_0 | x_t = x`. Needs `sigma > 0` unless it is a single point."""

    @abc.abstractmethod
    def tilted(self, a: Float[Array, "*shape"]) -> "ClosedProblem":
        """The distribution `p(x) exp(a . x) / Z`."""
