"""A Markov chain of symbols: text whose denoiser and flow map are exact.

With Gaussian noise a chain is a hidden Markov model. All one-hot vectors have the same length, so
given `x_t` a position has the log-emission `alpha / (noise_std sigma)^2 x`, and sums forward and
backward give the posterior's marginals in `O(length symbols^2)`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from core.flow.path import Path, Time
from core.oracle.problem import Problem

LEAST_SIGMA = 1e-3
"""Below it the posterior is a vertex to rounding anyhow."""


class MarkovText(Problem):
    """Strings of `length` symbols as one-hot rows (length, symbols): the first from `initial`, each
    next from the row of `transition` that belongs to the one before.

    All entries must be positive, and each row must sum to 1.
    """

    initial: Float[Array, " symbols"]
    transition: Float[Array, "symbols symbols"]
    length: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        return self.length, self.initial.shape[0]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "length symbols"]:
        return self.one_hot(self.sample_symbols(key))

    def sample_symbols(self, key: PRNGKeyArray) -> Int[Array, " length"]:
        """One string, as the numbers of its symbols."""
        key_first, key_rest = jr.split(key)
        first = jr.categorical(key_first, jnp.log(self.initial))

        def step(symbol: Array, key: Array) -> tuple[Array, Array]:
            drawn = jr.categorical(key, jnp.log(self.transition[symbol]))
            return drawn, drawn

        _, rest = jax.lax.scan(step, first, jr.split(key_rest, self.length)[1:])
        return jnp.concatenate([first[None], rest])

    def one_hot(self, symbols: Int[Array, " length"]) -> Float[Array, "length symbols"]:
        """The rows of a string."""
        return jax.nn.one_hot(symbols, self.initial.shape[0], dtype=self.initial.dtype)

    def log_likelihood(self, symbols: Int[Array, " length"]) -> Float[Array, ""]:
        """The log probability of a string, in nats."""
        steps = jnp.log(self.transition)[symbols[:-1], symbols[1:]]
        return jnp.log(self.initial)[symbols[0]] + jnp.sum(steps)

    def entropy(self) -> float:
        """The entropy of a string, in nats."""
        p, rows = np.asarray(self.initial, np.float64), np.asarray(self.transition, np.float64)
        total, each = -np.sum(p * np.log(p)), -np.sum(rows * np.log(rows), axis=1)
        for _ in range(self.length - 1):
            total, p = total + p @ each, p @ rows
        return float(total)

    def entropy_rate(self) -> float:
        """The entropy of a symbol given the one before in an endless string, in nats."""
        rows = np.asarray(self.transition, np.float64)
        return float(-np.sum(self.stationary()[:, None] * rows * np.log(rows)))

    def stationary(self) -> Float[np.ndarray, " symbols"]:
        """The distribution of a symbol in an endless string."""
        rows = np.asarray(self.transition, np.float64)
        n = len(rows)
        equations = np.concatenate([rows.T - np.eye(n), np.ones((1, n))])
        return np.linalg.lstsq(equations, np.eye(n + 1)[-1], rcond=None)[0]

    def logits(
        self, path: Path, x: Float[Array, "length symbols"], t: Time
    ) -> Float[Array, "length symbols"]:
        """Logits of the marginals of each position given `x_t = x`."""
        emission = self._emission(path, x, t)
        moves = jnp.log(self.transition)

        def back(beta: Array, after: Array) -> tuple[Array, Array]:
            beta = jax.nn.logsumexp(moves + (after + beta)[None, :], axis=1)
            return beta, beta

        last = jnp.zeros_like(emission[0])
        _, betas = jax.lax.scan(back, last, emission[1:], reverse=True)
        return self._forward(emission) + jnp.concatenate([betas, last[None]])

    def posterior_means(
        self, path: Path, x: Float[Array, "length symbols"], t: Time
    ) -> tuple[Float[Array, "length symbols"], Float[Array, "length symbols"]]:
        mean = jax.nn.softmax(self.logits(path, x, t))
        return mean, (x - path.alpha(t) * mean) / jnp.maximum(path.sigma(t), LEAST_SIGMA)

    def sample_posterior(
        self, path: Path, key: PRNGKeyArray, x: Float[Array, "length symbols"], t: Time
    ) -> Float[Array, "length symbols"]:
        forward, moves = self._forward(self._emission(path, x, t)), jnp.log(self.transition)
        keys = jr.split(key, self.length)
        last = jr.categorical(keys[-1], forward[-1])

        def back(after: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
            drawn = jr.categorical(given[1], given[0] + moves[:, after])
            return drawn, drawn

        _, before = jax.lax.scan(back, last, (forward[:-1], keys[:-1]), reverse=True)
        return self.one_hot(jnp.concatenate([before, last[None]]))

    def log_prob(self, path: Path, x: Float[Array, "length symbols"], t: Time) -> Float[Array, ""]:
        variance = (path.noise_std * path.sigma(t)) ** 2
        total = jax.nn.logsumexp(self._forward(self._emission(path, x, t))[-1])
        squares = jnp.sum(x**2) + self.length * path.alpha(t) ** 2
        return total - squares / (2 * variance) - x.size / 2 * jnp.log(2 * jnp.pi * variance)

    def _emission(
        self, path: Path, x: Float[Array, "length symbols"], t: Time
    ) -> Float[Array, "length symbols"]:
        sigma = jnp.maximum(path.sigma(t), LEAST_SIGMA)
        return path.alpha(t) / (path.noise_std * sigma) ** 2 * x

    def _forward(self, emission: Float[Array, "length symbols"]) -> Float[Array, "length symbols"]:
        """Log sums over all beginnings that end in a symbol, its own emission included."""
        moves = jnp.log(self.transition)

        def step(alpha: Array, here: Array) -> tuple[Array, Array]:
            alpha = here + jax.nn.logsumexp(alpha[:, None] + moves, axis=0)
            return alpha, alpha

        first = emission[0] + jnp.log(self.initial)
        _, rest = jax.lax.scan(step, first, emission[1:])
        return jnp.concatenate([first[None], rest])
