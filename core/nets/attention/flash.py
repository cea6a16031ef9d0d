"""Attention without the matrix of scores, under forward and reverse mode and any mixture of them.

The value has one derivative rule, a forward one, and its tangent is linear in the tangents of
`q`, `k` and `v`. From that JAX makes the rest: transposed, it is the backward pass of flash
attention; differentiated once more, the gradient through a tangent. Where a loss stops the
tangent, dead code is dropped as it is for the plain formula, so no flag says which rows
are differentiated how.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.nets.attention import scan


class Kernels(NamedTuple):
    """The two passes: `value(q, k, v) -> (o, lse)` and
    `tangent(q, k, v, o, lse, dq, dk, dv) -> (do, dlse)`, arrays as (heads, tokens, dim).

    The tangent must be linear in its last three arguments in JAX's sense: it can be transposed.
    """

    value: Callable
    tangent: Callable


SCAN = Kernels(scan.value, scan.tangent)


def flash(
    q: Float[Array, "n heads dim"],
    k: Float[Array, "m heads dim"],
    v: Float[Array, "m heads dim"],
    kernels: Kernels = SCAN,
) -> Float[Array, "n heads dim"]:
    """`softmax(q k^T / sqrt(dim)) v` of each head, in memory that grows with `n + m`."""
    o, _ = _flash(kernels, *(jnp.swapaxes(x, 0, 1) for x in (q, k, v)))
    return jnp.swapaxes(o, 0, 1).astype(v.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _flash(kernels, q, k, v):
    return kernels.value(q, k, v)


@_flash.defjvp
def _flash_jvp(kernels, primals, tangents):
    o, lse = _flash(kernels, *primals)
    return (o, lse), kernels.tangent(*primals, o, lse, *tangents)
