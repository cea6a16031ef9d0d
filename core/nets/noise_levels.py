"""The numbers by which networks of diffusion models receive the noise level and the label."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.nets.layers import at_least_float32

LEAST = 1e-7


def quarter_log_sigma(s: Float[Array, ""]) -> Float[Array, ""]:
    """`ln(sigma) / 4` at unit time `s = sigma / (1 + sigma)`, EDM's feature of the noise.

    Finite at 0 and 1 too. In float32 its error is about `1.5e-8 (1 + sigma)`: at large noise unit
    times lie dense.
    """
    s = jnp.clip(at_least_float32(s), LEAST, 1 - LEAST)
    return (jnp.log(s) - jnp.log1p(-s)) / 4


def angles(
    number: Float[Array, ""], count: int, *, shift: float = 0.0
) -> Float[Array, " features"]:
    """`number 10000^(-i / (count - shift))` for `i < count`: with `shift` 1 the end point is one.

    The frequencies are computed in float64.
    """
    rates = np.exp(-math.log(10000) * np.arange(count) / max(count - shift, 1))
    number = at_least_float32(number)
    return number * jnp.asarray(rates, number.dtype)


def one_hot(cond: Condition | None, classes: int) -> Float[Array, " classes"]:
    """The label as a vector; zeros for the null class and for no label."""
    label = None if cond is None else cond.label
    if label is None:
        return jnp.zeros(classes, jnp.float32)
    return jax.nn.one_hot(label, classes, dtype=jnp.float32)
