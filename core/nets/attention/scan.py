"""Attention and its tangent in plain JAX, one block of keys after the other.

With `S = q k^T / sqrt(dim)`, `P = softmax(S)` and `dS = (dq k^T + q dk^T) / sqrt(dim)`:

    o = P v,                lse = log sum exp S
    do = P dv + (P * (dS - c)) v - r o,      dlse = r + c,      r = rowsum(P * (dS - c))

for any number `c` of each row. Here it is the mean of `dS` over all keys, which costs two small
products; without it an offset common to all scores of a row drowns the rest in rounding.

Source: FlashAttention (arXiv 2205.14135) for the value; the tangent is that of sCM (arXiv
2410.11081), appendix F, with one accumulator and centred scores.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.nets.attention.blocks import BLOCK, filling, in_blocks


def value(
    q: Float[Array, "heads n dim"],
    k: Float[Array, "heads m dim"],
    v: Float[Array, "heads m dim"],
    block: int = BLOCK,
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads n"]]:
    """`(o, lse)`, both at least float32."""
    wide = wider(q)
    block = min(block, k.shape[1])

    def step(carry, blocks):
        highest, total, o = carry
        k, v, empty = blocks
        scores = _scores(q, k, empty)
        higher = jnp.maximum(highest, scores.max(-1))
        shrink = jnp.exp(highest - higher)
        p = jnp.exp(scores - higher[..., None])
        o = o * shrink[..., None] + _product(p, v)
        return (higher, total * shrink + p.sum(-1), o), None

    rows = q.shape[:2]
    start = jnp.full(rows, -jnp.inf, wide), jnp.zeros(rows, wide), jnp.zeros(q.shape, wide)
    blocks = in_blocks(k, block), in_blocks(v, block), filling(k.shape[1], block)
    (highest, total, o), _ = jax.lax.scan(step, start, blocks)
    return o / total[..., None], highest + jnp.log(total)


def tangent(
    q: Float[Array, "heads n dim"],
    k: Float[Array, "heads m dim"],
    v: Float[Array, "heads m dim"],
    o: Float[Array, "heads n dim"],
    lse: Float[Array, "heads n"],
    dq: Float[Array, "heads n dim"],
    dk: Float[Array, "heads m dim"],
    dv: Float[Array, "heads m dim"],
    block: int = BLOCK,
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads n"]]:
    """`(do, dlse)` along `(dq, dk, dv)`, where `(o, lse) = value(q, k, v)`.

    Linear in the last three, and a sum over blocks whose parts are computed again when they are
    needed: so its transpose, and the derivatives of both, need no more memory than the inputs.
    """
    block = min(block, k.shape[1])
    middle = centre(q, k, dq, dk)

    def step(carry, blocks):
        r, w = carry
        k, v, dk, dv, empty = blocks
        p = jnp.exp(_scores(q, k, empty) - lse[..., None])
        h = p * (_scores(dq, k) + _scores(q, dk) - middle[..., None])
        return (r + h.sum(-1), w + _product(p, dv) + _product(h, v)), None

    start = jnp.zeros_like(lse), jnp.zeros_like(o)
    blocks = *(in_blocks(x, block) for x in (k, v, dk, dv)), filling(k.shape[1], block)
    (r, w), _ = jax.lax.scan(jax.checkpoint(step, prevent_cse=False), start, blocks)
    return w - r[..., None] * o, r + middle


def transposed(
    q: Float[Array, "heads n dim"],
    k: Float[Array, "heads m dim"],
    v: Float[Array, "heads m dim"],
    o: Float[Array, "heads n dim"],
    lse: Float[Array, "heads n"],
    g: Float[Array, "heads n dim"],
    g_lse: Float[Array, "heads n"],
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads m dim"], Float[Array, "heads m dim"]]:
    """The transpose of `tangent`, linear in `(dq, dk, dv)`, at the cotangents `(g, g_lse)`."""
    _, back = jax.vjp(partial(tangent, q, k, v, o, lse), *(jnp.zeros_like(x) for x in (q, k, v)))
    return tuple(x.astype(g.dtype) for x in back((g, g_lse)))


def wider(x: Float[Array, "..."]) -> jnp.dtype:
    """The dtype of sums: at least float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def centre(q, k, dq, dk):
    """Mean over the keys of the tangent scores, one number a query."""
    k, dk = (x.astype(wider(q)).mean(1, keepdims=True) for x in (k, dk))
    return (_scores(dq.astype(k.dtype), k) + _scores(q.astype(k.dtype), dk))[..., 0]


def _scores(q, k, empty=None):
    scores = jnp.einsum("hnd,hmd->hnm", q, k, preferred_element_type=wider(q))
    scores = scores / math.sqrt(q.shape[-1])
    return scores if empty is None else jnp.where(empty, -jnp.inf, scores)


def _product(weights, v):
    return jnp.einsum("hnm,hmd->hnd", weights.astype(v.dtype), v, preferred_element_type=wider(v))
