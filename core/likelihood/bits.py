"""Bits per dimension of data that are stored in levels."""

import math

import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key


def dequantised(
    x: Float[Array, "*shape"], levels: int | None, *, key: Key[Array, ""]
) -> Float[Array, "*shape"]:
    """Network values spread evenly over the bin of their level; as they are without levels.

    Levels `0, ..., L` are stored as `2 k / L - 1`, so a bin is `2 / L` wide around that value.
    """
    if levels is None:
        return x
    return x + (2 * jr.uniform(key, x.shape, x.dtype) - 1) / levels


def bits_per_dimension(
    log_prob: Float[Array | np.ndarray, "..."], size: int, levels: int | None
) -> Float[Array | np.ndarray, "..."]:
    """`-log_prob / (size ln 2) + log2(L / 2)`: bits for a number's level, at most.

    With even spreading it is an upper bound of the bits of the discrete distribution (Theis et
    al., arXiv 1511.01844, section 3.1). Without levels the last part is 0, and the figure that of a
    density in network values, of any sign. `L = 255` adds 6.994; papers whose bins are `1 / 128`
    wide add 7.
    """
    bins = 0.0 if levels is None else math.log2(levels / 2)
    return -log_prob / (size * math.log(2)) + bins
