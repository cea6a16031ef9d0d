"""Importance weights of a map's samples for an unnormalised target density."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class Weighted(eqx.Module):
    """What weights `w = exp(-E(x)) / p_F(x)` of `n` samples say of the target `exp(-E) / Z`.

    **Fields:** `log_z`, the logarithm of the mean weight, and `log_z_error`, its standard error
    (to first order); `effective`, the share `(sum w)^2 / (n sum w^2)`; `log_w`, not normalised.

    The mean weight is right in the mean for any map that is one-to-one, trained or not. A map that
    folds counts places once for each of their origins, and the mean is off without a sign of it in
    the weights: see the share of negative determinants.
    """

    log_z: Float[Array, ""]
    log_z_error: Float[Array, ""]
    effective: Float[Array, ""]
    log_w: Float[Array, " n"]


def weighted(energy: Float[Array, " n"], log_prob: Float[Array, " n"]) -> Weighted:
    """The weights of samples whose energies and log densities under the map (exact ones: an
    unbiased estimate of `log_prob` makes a biased weight) are given."""
    log_w = -energy - log_prob
    n = len(log_w)
    log_z = jax.nn.logsumexp(log_w) - jnp.log(n)
    relative = jnp.exp(log_w - log_z)
    error = jnp.std(relative, ddof=1) / jnp.sqrt(n)
    return Weighted(log_z, error, 1 / jnp.mean(relative**2), log_w)


def expectation(values: Float[Array, " n *shape"], found: Weighted) -> tuple[Array, Array]:
    """`E[f]` under the target by self-normalised weights, and its standard error (delta method)."""
    shares = jax.nn.softmax(found.log_w)
    mean = jnp.tensordot(shares, values, 1)
    return mean, jnp.sqrt(jnp.tensordot(shares**2, (values - mean) ** 2, 1))
