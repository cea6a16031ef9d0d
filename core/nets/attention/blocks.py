"""Keys and values in blocks of equal length, the last one filled up."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

BLOCK = 128
"""Keys in a block. The scores of one block, `n` times this, are all that is kept of the `n m`."""


def in_blocks(x: Float[Array, "heads m dim"], block: int) -> Float[Array, "blocks heads block dim"]:
    """The rows of `x`, `block` at a time; the last block is filled up with zeros."""
    heads, m, dim = x.shape
    full = jnp.pad(x, ((0, 0), (0, -m % block), (0, 0)))
    return jnp.moveaxis(full.reshape(heads, -1, block, dim), 1, 0)


def filling(m: int, block: int) -> Bool[Array, "blocks one one block"] | None:
    """True where a block holds no key, to be broadcast over heads and queries; None: nowhere."""
    if m % block == 0:
        return None
    places = jnp.arange(m + -m % block)
    return (places >= m).reshape(-1, 1, 1, block)
