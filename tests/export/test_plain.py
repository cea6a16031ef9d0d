"""A traced function in few operations has the same values."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from core.export.plain import plain, primitives
from tests.compiling import once

TABLE = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
CUBE = np.random.default_rng(1).normal(size=(4, 3, 2)).astype(np.float32)


@jax.custom_jvp
def halved(x):
    return x / 2


halved.defjvps(lambda t, ans, x: t / 2)


def mixed(labels, x):
    """Rows of a table, sums over two axes with a batch, tiles, a stack, a loop and calls."""

    def row(label, y):
        half = jax.jit(halved)(jnp.asarray(TABLE)[label] + y)
        return jnp.tile(jnp.einsum("abc,cb->ca", CUBE, half), (2, 1))

    rows = jax.vmap(row)(labels, x)
    narrow = (rows.astype(jnp.bfloat16) * 2).astype(jnp.float32)
    total, _ = lax.scan(lambda c, m: (c @ m, None), jnp.eye(4), jnp.asarray(np.float32(LOOP)))
    return jnp.stack([rows, narrow / 2], axis=1) @ total


LOOP = np.arange(48).reshape(3, 4, 4) / 20


def test_values_stay_and_only_few_operations_are_left():
    labels, x = np.array([4, 0, 2], np.int32), np.full((3, 2, 3), 0.25, np.float32)
    closed = jax.make_jaxpr(mixed)(labels, x)
    assert {"gather", "tile", "stack", "jit", "custom_jvp_call"} <= primitives(closed)
    few = plain(closed)
    left = primitives(jax.make_jaxpr(few)(labels, x))
    assert not left & {"gather", "tile", "stack", "jit", "custom_jvp_call"}
    half = (TABLE[labels] + x) / 2
    rows = np.tile(np.einsum("abc,ncb->nca", CUBE, half), (1, 2, 1))
    wanted = np.stack([rows, rows], axis=1) @ (LOOP[0] @ LOOP[1] @ LOOP[2])
    np.testing.assert_allclose(once(few)(labels, x)[0], wanted, rtol=1e-5, atol=1e-5)


def test_products_are_of_matrices_and_what_is_constant_is_no_operation():
    def product(x):
        unused = jnp.sin(x)
        del unused
        return jnp.einsum("nab,cab->nc", x, jnp.cos(jnp.asarray(CUBE[:, :2])))

    closed = jax.make_jaxpr(product)(np.zeros((3, 2, 2), np.float32))
    few = jax.make_jaxpr(plain(closed))(np.zeros((3, 2, 2), np.float32))
    assert not primitives(few) & {"cos", "sin", "transpose"}
    (dot,) = [eqn for eqn in few.jaxpr.eqns if eqn.primitive.name == "dot_general"]
    assert [var.aval.ndim for var in dot.invars] == [2, 2]
