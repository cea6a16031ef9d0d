"""Attention against a plain loop in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from core.nets.attention import attention
from tests.compiling import once


def by_loop(q, k, v):
    """One query and one head at a time, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros((q.shape[0], *v.shape[1:]))
    for i in range(q.shape[0]):
        for h in range(q.shape[1]):
            weights = np.exp(k[:, h] @ q[i, h] / np.sqrt(q.shape[2]))
            out[i, h] = weights @ v[:, h] / weights.sum()
    return out


def test_attention_equals_a_loop_over_queries(normal):
    q, k, v = (normal(n, 2, 4) for n in (5, 7, 7))
    np.testing.assert_allclose(once(attention)(q, k, v), by_loop(q, k, v), rtol=1e-5, atol=1e-6)


def test_large_logits_do_not_overflow(normal):
    q, k, v = (normal(6, 2, 4) for _ in range(3))
    out = once(attention)(1e4 * q, k, v)
    nearest = np.argmax(np.einsum("nhd,mhd->nhm", q, k), axis=-1)
    expected = np.take_along_axis(v, nearest[..., None], axis=0)
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_softmax_is_float32_for_bfloat16_inputs(normal):
    q, k, v = (normal(64, 2, 8).astype(jnp.bfloat16) for _ in range(3))
    out = once(attention)(q, k, v)
    assert out.dtype == jnp.bfloat16
    error = np.abs(np.asarray(out, np.float64) - by_loop(q, k, v)).max()
    assert error < 0.02


def test_tangent_passes_through_vmap_and_reverse_mode(normal, x64):
    q, k, v, dq, dk, dv = (normal(3, 4, 2, 4) for _ in range(6))

    def tangent(e):
        """With the first argument moved by `e` along its own tangent."""
        step = jax.vmap(lambda *a: jax.jvp(attention, a[:3], a[3:])[1])
        return step(q + e * dq, *map(jnp.asarray, (k, v, dq, dk, dv)))

    h = 1e-5
    ahead, behind = (
        np.stack([by_loop(q[i] + e * dq[i], k[i] + e * dk[i], v[i] + e * dv[i]) for i in range(3)])
        for e in (h, -h)
    )
    moved = once(tangent)
    np.testing.assert_allclose(
        moved(np.zeros(())), (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-9
    )
    slope = once(jax.grad(lambda e: tangent(e).sum()))(np.zeros(()))
    difference = (moved(np.asarray(h)).sum() - moved(np.asarray(-h)).sum()) / (2 * h)
    np.testing.assert_allclose(slope, difference, rtol=1e-6)
