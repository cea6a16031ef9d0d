"""`sin(z) / z` and `sinh(z) / z`, smooth at 0 to every order, for slopes of curves."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def sinc(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`sin(z) / z` (not `jnp.sinc`, which has a factor pi); 1 at 0.

    Its derivatives of every order are right at 0 and lose no digits near 0.
    """
    far = jnp.abs(z) > 1.0
    z_far = jnp.where(far, z, 1.0)
    return jnp.where(far, jnp.sin(z_far) / z_far, odd_factorial_series(-(z**2)))


def sinhc(z: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`sinh(z) / z`; 1 at 0. Its derivatives of every order are right at 0."""
    far = jnp.abs(z) > 1.0
    z_far = jnp.where(far, z, 1.0)
    return jnp.where(far, jnp.sinh(z_far) / z_far, odd_factorial_series(z**2))


def odd_factorial_series(w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`sum_k w^k / (2 k + 1)!`, exact to float64 for `|w| <= 1`."""
    w = jnp.clip(w, -4.0, 4.0)  # where a caller takes the other branch, keep this one finite
    total = jnp.ones_like(w)
    for k in range(10, 0, -1):
        total = 1.0 + total * w / ((2 * k) * (2 * k + 1))
    return total
