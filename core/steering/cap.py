"""Gradients of rewards spike between modes: the same direction, no longer than said."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def shortened(
    vector: Float[Array, "*shape"], most: Float[Array, ""] | float
) -> Float[Array, "*shape"]:
    """The vector, at most `most` long; not finite where it is not, so that the samples say so."""
    length = jnp.sqrt(jnp.sum(vector**2))
    return vector * jnp.minimum(1.0, most / jnp.maximum(length, 1e-30))
