"""Weights of particles: effective sample size, resampling, estimates of the normaliser."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

RESAMPLING = ("systematic", "stratified", "residual", "multinomial")
"""Schemes of resampling, by the names that BlackJAX gives them."""


def effective(log_w: Float[Array, " n"]) -> Float[Array, ""]:
    """The effective sample size `(sum w)^2 / sum w^2`, from 1 to n."""
    return jnp.exp(2 * jax.nn.logsumexp(log_w) - jax.nn.logsumexp(2 * log_w))


def log_mean(log_w: Float[Array, " n"]) -> Float[Array, ""]:
    """`log mean exp`."""
    return jax.nn.logsumexp(log_w) - jnp.log(len(log_w))


class Resampler(eqx.Module):
    """Resamples where the effective sample size falls below `threshold n`; else weights are kept.

    `threshold` 0 never resamples, above 1 always.
    """

    threshold: float = eqx.field(static=True, default=0.5)
    scheme: str = eqx.field(static=True, default="systematic")

    def __call__(
        self, key: Key[Array, ""], log_w: Float[Array, " n"]
    ) -> tuple[Int[Array, " n"], Float[Array, " n"], Float[Array, ""], Bool[Array, ""]]:
        """Indices of the survivors, their log weights, the increment of log Z; whether it did."""
        with jax.ensure_compile_time_eval():  # BlackJAX makes an array while it is imported
            from blackjax.smc import resampling

        n = len(log_w)
        do = effective(log_w) < self.threshold * n
        drawn = getattr(resampling, self.scheme)(key, jax.nn.softmax(log_w), n)
        index = jnp.where(do, drawn, jnp.arange(n))
        kept = jnp.where(do, jnp.zeros_like(log_w), log_w)
        return index, kept, jnp.where(do, log_mean(log_w), 0.0), do
