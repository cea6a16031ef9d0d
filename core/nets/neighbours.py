"""Neighbours of a token: a short convolution along the sequence, one filter a channel."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def with_neighbours(
    h: Float[Array, "tokens width"], filters: Float[Array, "size width"]
) -> Float[Array, "tokens width"]:
    """`h_p + sum_k filters_k h_(p + k - size // 2)`, with zeros beyond the ends.

    Zero filters leave `h` as it is. Source: Canon layers (arXiv 2512.17351), in both directions.
    """
    tokens, reach = h.shape[0], filters.shape[0] // 2
    padded = jnp.pad(h, ((reach, reach), (0, 0)))
    for k in range(filters.shape[0]):
        h = h + filters[k : k + 1] * padded[k : k + tokens]
    return h
