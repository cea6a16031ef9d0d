"""Attention by its formula: all scores at once, differentiated by JAX to any order."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def naive(
    q: Float[Array, "n heads dim"],
    k: Float[Array, "m heads dim"],
    v: Float[Array, "m heads dim"],
) -> Float[Array, "n heads dim"]:
    """`softmax(q k^T / sqrt(dim)) v` of each head; the softmax in float32.

    Memory grows with `n m`; below a thousand tokens nothing is faster.
    """
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scaled = q / math.sqrt(q.shape[-1])
    logits = jnp.einsum("nhd,mhd->hnm", scaled, k, preferred_element_type=wide)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("hnm,mhd->nhd", weights, v)
