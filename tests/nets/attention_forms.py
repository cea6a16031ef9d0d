"""What training asks of attention: the value, the tangent and gradients of both."""

import jax
import jax.numpy as jnp
import numpy as np


def value(f, primals, tangents):
    return f(*primals)


def tangent(f, primals, tangents):
    return jax.jvp(f, primals, tangents)


def gradient(f, primals, tangents):
    return jax.grad(lambda *x: jnp.sin(f(*x)).sum(), (0, 1, 2))(*primals)


def stopped(f, primals, tangents):
    """Of a loss with a tangent in its target, as in MeanFlow."""

    def loss(*x):
        o, do = jax.jvp(f, x, tangents)
        return jnp.square(o - jax.lax.stop_gradient(jnp.cos(o) + do)).sum()

    return jax.grad(loss, (0, 1, 2))(*primals)


def through(f, primals, tangents):
    """Of a loss that is differentiated through the tangent too."""

    def loss(primals, tangents):
        o, do = jax.jvp(f, primals, tangents)
        return (jnp.sin(o) * jnp.cos(do)).sum()

    return jax.grad(loss, (0, 1))(primals, tangents)


def second_tangent(f, primals, tangents):
    return jax.jvp(lambda *x: jax.jvp(f, x, tangents), primals, tangents)


FORMS = (value, tangent, gradient, stopped, through, second_tangent)


def arrays(queries, keys, *, heads=2, dim=3, dtype=jnp.float64):
    """Random `(q, k, v)` and tangents of them."""
    shapes = [(n, heads, dim) for n in (queries, keys, keys)] * 2
    rng = np.random.default_rng(0)
    drawn = [rng.standard_normal(shape, np.float32).astype(dtype) for shape in shapes]
    drawn = [jax.device_put(x) for x in drawn]
    return tuple(drawn[:3]), tuple(drawn[3:])
