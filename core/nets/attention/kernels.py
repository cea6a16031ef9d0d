"""Value, tangent and transposed tangent as Pallas kernels, one source for GPUs and TPUs.

A program has one head and one block of queries, and goes through the keys in blocks; for the
gradients of keys and values the other way round. Scores stay in fast memory, sums are float32. The
formulas are those of `core.nets.attention.scan`. On a device that is neither GPU (by Triton) nor
TPU (by Mosaic) the kernels are interpreted, which is for tests.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array, Float

from core.nets.attention.scan import centre, wider

ROWS = 64
"""Rows in a block, of queries and of keys. Not tuned: no kernel has run on an accelerator yet."""


def value(
    q: Float[Array, "heads n dim"],
    k: Float[Array, "heads m dim"],
    v: Float[Array, "heads m dim"],
    block: int = ROWS,
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads n"]]:
    """`(o, lse)`, both float32."""
    n, dim = q.shape[1:]
    kernel = partial(_value, scale=_scale(q), keys=k.shape[1])
    o, lse = _call(kernel, (q,), (k, v), (dim, 1), block)
    return o[:, :n], lse[:, :n, 0]


def tangent(
    q: Float[Array, "heads n dim"],
    k: Float[Array, "heads m dim"],
    v: Float[Array, "heads m dim"],
    o: Float[Array, "heads n dim"],
    lse: Float[Array, "heads n"],
    dq: Float[Array, "heads n dim"],
    dk: Float[Array, "heads m dim"],
    dv: Float[Array, "heads m dim"],
    block: int = ROWS,
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads n"]]:
    """`(do, dlse)` along `(dq, dk, dv)`, where `(o, lse) = value(q, k, v)`."""
    middle = centre(q, k, dq, dk)
    kernel = partial(_tangent, scale=_scale(q), keys=k.shape[1])
    columns = lse[..., None], middle[..., None]
    w, r = _call(kernel, (q, dq, *columns), (k, v, dk, dv), (q.shape[2], 1), block)
    w, r = w[:, : q.shape[1]], r[:, : q.shape[1]]
    return w - r * o, r[..., 0] + middle


def transposed(
    q: Float[Array, "heads n dim"],
    k: Float[Array, "heads m dim"],
    v: Float[Array, "heads m dim"],
    o: Float[Array, "heads n dim"],
    lse: Float[Array, "heads n"],
    g: Float[Array, "heads n dim"],
    g_lse: Float[Array, "heads n"],
    block: int = ROWS,
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads m dim"], Float[Array, "heads m dim"]]:
    """The transpose of `tangent`, linear in `(dq, dk, dv)`, at the cotangents `(g, g_lse)`.

    That is the backward pass of flash attention; float32. Rows of `P * (g v^T + ..)` must sum to
    `g_lse`, and the amount by which rounding misses that is taken off.
    """
    n, m, dim, scale = q.shape[1], k.shape[1], q.shape[2], _scale(q)
    columns = lse[..., None], g_lse[..., None] - (g * o).sum(-1, keepdims=True)
    g = g.astype(v.dtype)
    kernel = partial(_to_queries, scale=scale, keys=m)
    dq, total = _call(kernel, (q, g, *columns), (k, v), (dim, 1), block)
    missed = g_lse[..., None] - total[:, :n]
    dk, dv = _call(partial(_to_keys, scale=scale), (k, v), (q, g, *columns), (dim, dim), block)
    dq = dq[:, :n] + scale * missed * k.astype(missed.dtype).mean(1, keepdims=True)
    dk = dk[:, :m] + scale / m * (missed * q).sum(1, keepdims=True)
    return dq, dk, dv[:, :m]


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


def _to_queries(q, g, lse, moved, k, v, dq, total, *, scale, keys):
    rows, block = dq.shape[0], min(dq.shape[0], k.shape[0])

    def step(j, carry):
        total, dq = carry
        at = pl.ds(j * block, block)
        p = jnp.exp(_scores(q[...], k[at, :], scale, keys - j * block) - lse[...])
        h = p * (_scores(g[...], v[at, :]) + moved[...])
        return total + h.sum(1, keepdims=True), dq + scale * _product(h, k[at, :])

    start = jnp.zeros((rows, 1), dq.dtype), jnp.zeros(dq.shape, dq.dtype)
    total[...], dq[...] = jax.lax.fori_loop(0, k.shape[0] // block, step, start)


def _to_keys(k, v, q, g, lse, moved, dk, dv, *, scale):
    """Queries that fill up a block have `g = moved = 0` and give nothing."""
    block = min(dk.shape[0], q.shape[0])

    def step(j, carry):
        dk, dv = carry
        at = pl.ds(j * block, block)
        p = jnp.exp(_scores(q[at, :], k[...], scale) - lse[at, :])
        h = p * (_scores(g[at, :], v[...]) + moved[at, :])
        return dk + scale * _product(h, q[at, :], 0), dv + _product(p, g[at, :], 0)

    start = jnp.zeros(dk.shape, dk.dtype), jnp.zeros(dv.shape, dv.dtype)
    dk[...], dv[...] = jax.lax.fori_loop(0, q.shape[0] // block, step, start)


def _scale(q):
    return 1 / math.sqrt(q.shape[-1])


def _scores(q, k, scale=1.0, keys=None):
    """`scale q k^T`; minus infinity from column `keys` on."""
    scores = scale * jax.lax.dot_general(
        q, k, (((1,), (1,)), ((), ())), preferred_element_type=wider(q)
    )
    if keys is None:
        return scores
    return jnp.where(jax.lax.broadcasted_iota(jnp.int32, scores.shape, 1) < keys, scores, -jnp.inf)


def _product(weights, v, along=1):
    """`weights v`, or with `along` 0 `weights^T v`."""
    dims = (((along,), (0,)), ((), ()))
    return jax.lax.dot_general(weights.astype(v.dtype), v, dims, preferred_element_type=wider(v))


def _call(
    kernel: Callable,
    held: tuple[Any, ...],
    streamed: tuple[Any, ...],
    out: tuple[int, int],
    block: int,
) -> tuple[Float[Array, "heads rows one"], Float[Array, "heads rows two"]]:
    """Runs the kernel on blocks of the rows of `held`, with the whole of `streamed` for each.

    Arrays are filled up to whole blocks of rows, and in width to a power of two of at least 16,
    which products on GPUs want; the outputs, of widths `out`, have the rows that were added.
    """
    heads, _, dim = held[0].shape
    width = max(16, pl.next_power_of_2(dim))
    held = tuple(_filled(x, block, width) for x in held)
    streamed = tuple(_filled(x, block, width) for x in streamed)
    rows, wide = held[0].shape[1], wider(held[0])
    widths = [1 if size == 1 else width for size in out]
    call = partial(
        pl.pallas_call,
        kernel,
        grid=(heads, rows // block),
        in_specs=[_rows(block, x.shape[2]) for x in held]
        + [pl.BlockSpec((None, *x.shape[1:]), lambda h, i: (h, 0, 0)) for x in streamed],
        out_specs=[_rows(block, size) for size in widths],
        out_shape=[jax.ShapeDtypeStruct((heads, rows, size), wide) for size in widths],
    )
    first, second = jax.lax.platform_dependent(
        *held,
        *streamed,
        cuda=call(compiler_params=_triton()),
        rocm=call(compiler_params=_triton()),
        tpu=call(),
        default=call(interpret=True),
    )
    return first[..., : out[0]], second[..., : out[1]]


def _triton():
    """Without it GPUs get Mosaic, which cannot yet lower these products."""
    from jax.experimental.pallas import triton

    return triton.CompilerParams(num_warps=4, num_stages=1)


def _rows(block, width):
    return pl.BlockSpec((None, block, width), lambda h, i: (h, i, 0))


def _filled(x, block, width):
    """`x` with rows of zeros to whole blocks, and columns, unless it is one, to `width`."""
    columns = 0 if x.shape[2] == 1 else width - x.shape[2]
    return jnp.pad(x, ((0, 0), (0, -x.shape[1] % block), (0, columns)))
