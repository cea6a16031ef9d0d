"""Rotary positions: queries and keys that are turned by their place in the sequence."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def turned(x: Float[Array, "tokens heads dim"]) -> Float[Array, "tokens heads dim"]:
    """Channels `(2i, 2i + 1)` of the token at place `p` turned by the angle `p 10000^(-2i / dim)`.

    Source: RoPE (arXiv 2104.09864), eq. 34, in the order of its pairs.
    """
    tokens, _, dim = x.shape
    angles = np.arange(tokens)[:, None, None] * 1e4 ** (-np.arange(0, dim, 2) / dim)
    wide = jnp.promote_types(x.dtype, jnp.float32)
    cos, sin = jnp.asarray(np.cos(angles), wide), jnp.asarray(np.sin(angles), wide)
    first, second = x[..., ::2].astype(wide), x[..., 1::2].astype(wide)
    pairs = jnp.stack([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return pairs.reshape(x.shape).astype(x.dtype)
