"""Value and tangent as Pallas kernels, one source for GPUs (Triton) and TPUs (Mosaic).

A program has one head and `BLOCK` queries, and goes through the keys in blocks, which stay in fast
memory; the sums are float32. The formulas are those of `core.nets.attention.scan`. On any other
device the kernels are interpreted, which is for tests.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from core.nets.attention.blocks import BLOCK
from core.nets.attention.scan import centre, wider


def value(
    q: Float[Array, "heads n dim"],
    k: Float[Array, "heads m dim"],
    v: Float[Array, "heads m dim"],
    block: int = BLOCK,
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads n"]]:
    """`(o, lse)`, both float32."""
    return _call(partial(_value, scale=_scale(q), keys=k.shape[1]), (q,), (k, v), block)


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
    """`(do, dlse)` along `(dq, dk, dv)`, where `(o, lse) = value(q, k, v)`."""
    middle = centre(q, k, dq, dk)
    kernel = partial(_tangent, scale=_scale(q), keys=k.shape[1])
    w, r = _call(kernel, (q, dq, lse[..., None], middle[..., None]), (k, v, dk, dv), block)
    return w - r[..., None] * o, r + middle


def _value(q, k, v, o, lse, *, scale, keys):
    rows, block = o.shape[0], min(o.shape[0], k.shape[0])

    def step(j, carry):
        highest, total, o = carry
        at = pl.ds(j * block, block)
        scores = _scores(q[...], k[at, :], scale, keys - j * block)
        higher = jnp.maximum(highest, scores.max(1, keepdims=True))
        shrink = jnp.exp(highest - higher)
        p = jnp.exp(scores - higher)
        o = o * shrink + _product(p, v[at, :])
        return higher, total * shrink + p.sum(1, keepdims=True), o

    column = jnp.zeros((rows, 1), o.dtype)
    start = column - jnp.inf, column, jnp.zeros(o.shape, o.dtype)
    highest, total, sums = jax.lax.fori_loop(0, k.shape[0] // block, step, start)
    o[...] = sums / total
    lse[...] = highest + jnp.log(total)


def _tangent(q, dq, lse, middle, k, v, dk, dv, w, r, *, scale, keys):
    rows, block = w.shape[0], min(w.shape[0], k.shape[0])

    def step(j, carry):
        r, w = carry
        at = pl.ds(j * block, block)
        p = jnp.exp(_scores(q[...], k[at, :], scale, keys - j * block) - lse[...])
        slopes = _scores(dq[...], k[at, :], scale) + _scores(q[...], dk[at, :], scale)
        h = p * (slopes - middle[...])
        return r + h.sum(1, keepdims=True), w + _product(p, dv[at, :]) + _product(h, v[at, :])

    start = jnp.zeros((rows, 1), w.dtype), jnp.zeros(w.shape, w.dtype)
    r[...], w[...] = jax.lax.fori_loop(0, k.shape[0] // block, step, start)


def _scale(q):
    return 1 / math.sqrt(q.shape[-1])


def _scores(q, k, scale, keys=None):
    """`scale q k^T`; minus infinity from column `keys` on."""
    scores = scale * jax.lax.dot_general(
        q, k, (((1,), (1,)), ((), ())), preferred_element_type=wider(q)
    )
    if keys is None:
        return scores
    return jnp.where(jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1) < keys, scores, -jnp.inf)


def _product(weights, v):
    return jnp.dot(weights.astype(v.dtype), v, preferred_element_type=wider(v))


def _call(
    kernel: Callable, per_query: tuple[Any, ...], per_key: tuple[Any, ...], block: int
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads n"]]:
    """Runs the kernel on whole blocks and cuts its two outputs, (n, dim) and (n,), to size."""
    heads, n, dim = per_query[0].shape
    width = max(16, pl.next_power_of_2(dim))  # products on GPUs want sides of powers of two
    per_query = tuple(_filled(x, block, width) for x in per_query)
    per_key = tuple(_filled(x, block, width) for x in per_key)
    rows = per_query[0].shape[1]
    wide = wider(per_query[0])
    call = partial(
        pl.pallas_call,
        kernel,
        grid=(heads, rows // block),
        in_specs=[_by_queries(block, x.shape[2]) for x in per_query]
        + [pl.BlockSpec((None, *x.shape[1:]), lambda h, i: (h, 0, 0)) for x in per_key],
        out_specs=[_by_queries(block, width), _by_queries(block, 1)],
        out_shape=[jax.ShapeDtypeStruct((heads, rows, size), wide) for size in (width, 1)],
    )
    sums, column = jax.lax.platform_dependent(
        *per_query,
        *per_key,
        cuda=call(compiler_params=_triton()),
        rocm=call(compiler_params=_triton()),
        tpu=call(),
        default=call(interpret=True),
    )
    return sums[:, :n, :dim], column[:, :n, 0]


def _triton():
    """Without it GPUs get Mosaic, which cannot yet lower these products."""
    from jax.experimental.pallas import triton

    return triton.CompilerParams(num_warps=8, num_stages=2)


def _by_queries(block, width):
    return pl.BlockSpec((None, block, width), lambda h, i: (h, i, 0))


def _filled(x, block, width):
    """`x` with rows of zeros to whole blocks, and columns, unless it is one, to `width`."""
    columns = 0 if x.shape[2] == 1 else width - x.shape[2]
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), (0, columns)))
