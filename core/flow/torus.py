"""Tori: every coordinate is an angle."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.space import Parallel

TURN = 2 * jnp.pi


class Torus(Parallel):
    """Angles in radians, in `[-pi, pi]`; a circle is a torus of one angle.

    Flat, but not simply connected: jumps add up as in flat space and only points are wrapped, never
    tangent vectors. A network sees sines and cosines, `(*factors, 2 d)` for `d` angles, and returns
    `d` rates.
    """

    def exp(self, x: Float[Array, "*shape"], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return wrap(x + u)

    def log(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return wrap(y - x)

    def project(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return wrap(x)

    def uniform(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return jr.uniform(key, shape, minval=-jnp.pi, maxval=jnp.pi)

    def features(self, x: Float[Array, "*shape"]) -> Float[Array, "..."]:
        return jnp.concatenate([jnp.sin(x), jnp.cos(x)], axis=-1)

    def feature_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], 2 * shape[-1])


def wrap(angle: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same angle in `[-pi, pi]`; one that is there already keeps every bit."""
    return angle - TURN * jnp.round(angle / TURN)
