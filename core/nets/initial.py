"""Random initial parameters, all of a network's from one draw."""

import math
from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

Module = TypeVar("Module")


class Normal:
    """Independent standard normal numbers, handed out piece by piece in the order of the calls.

    A random draw costs JAX a compilation for every shape it sees. One draw for all parameters of a
    network, cut into pieces, makes building it ten times faster. Without `numbers` it only counts.
    """

    def __init__(self, numbers: Float[Array, " n"] | None = None):
        self.numbers = numbers
        self.used = 0

    def __call__(self, *shape: int) -> Float[Array, "..."]:
        start = self.used
        self.used += math.prod(shape)
        if self.numbers is None:
            return jnp.zeros(shape, jnp.float32)
        return self.numbers[start : self.used].reshape(shape)


def initialise(make: Callable[[Normal], Module], key: Key[Array, ""]) -> Module:
    """`make(normal)` with as many random numbers as it asks for."""
    numbers = jr.normal(key, (_count(make),), jnp.float32)
    return eqx.filter_jit(lambda numbers: make(Normal(numbers)))(numbers)


def stack(make: Callable[[Normal], Module], depth: int, normal: Normal) -> Module:
    """`depth` modules as one: every parameter with a leading layer axis, for `jax.lax.scan`."""
    rows = normal(depth, _count(make))
    return eqx.filter_vmap(lambda row: make(Normal(row)))(rows)


def _count(make: Callable[[Normal], Module]) -> int:
    normal = Normal()
    eqx.filter_eval_shape(lambda: make(normal))
    return normal.used
