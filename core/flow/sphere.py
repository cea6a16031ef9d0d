"""Spheres: unit vectors, in the coordinates of the space around them.

With `theta = |u|` and `w` split along and across `u`, and parallel transport along the geodesic,

    source_pull(x, u, v) = v_along + theta cot(theta) v_across
    target_pull(x, u, w) = w_along + theta / sin(theta) w_across, transported from exp_x(u) to x
    push(x, u, g) = g_along + sin(theta) / theta g_across, transported from x to exp_x(u).
"""

from collections.abc import Callable

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.series import odd_factorial_series
from core.flow.space import Space

MOST = jnp.pi - 0.1
"""The angle beyond which the pulls keep their value: at the antipode they are infinite."""
LEAST = 1e-8
"""The least squared angle by which is divided."""


class Sphere(Space):
    """`S^d` as unit vectors `(*factors, d + 1)`, geodesics of speed 1 a radian.

    A network sees the coordinates and returns a vector that is projected.
    """

    def exp(self, x: Float[Array, "*shape"], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        q = dot(u, u)
        return _cos(q) * x + _sinc(q) * u

    def log(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        step = y - x  # of near points it has all digits, and inner products of it keep them
        across = step - dot(x, step) * x
        return jump_from_parts(dot(x, y), across)

    def tangent(
        self, x: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return w - dot(x, w) * x

    def project(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return unit(x)

    def uniform(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return unit(jr.normal(key, shape))

    def push(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], g: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        stretched = _across(_sinc, u, g)
        q = dot(u, u)
        return stretched - dot(u, stretched) * (_versine(q) * u + _sinc(q) * x)

    def source_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], v: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        del x
        return _across(_cotangent, u, v)

    def target_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        q = dot(u, u)
        there = _cos(q) * u - q * _sinc(q) * x  # the velocity with which the geodesic arrives
        back = w + dot(there, w) * (_versine(q) * u + _sinc(q) * x)
        return _across(_cosecant, u, back)

    def join(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return jump_from_parts(*joined_parts(x, u, w))


def joined_parts(
    x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
) -> tuple[Float[Array, "*point 1"], Float[Array, "*shape"]]:
    """`(<x, y>, y - <x, y> x)` of the end `y` of two jumps, without cancellation for short ones."""
    first, second = dot(u, u), dot(w, w)
    turned = _sinc(second)
    inner = _cos(second) * _cos(first) + turned * dot(x, w)
    return inner, _cos(second) * _sinc(first) * u + turned * (w - dot(x, w) * x)


def jump_from_parts(
    inner: Float[Array, "*point 1"], across: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """The jump to the point with this inner product and this part across; about 0 at the antipode,
    where it has no direction."""
    sine = length(across)
    near = sine < 1e-6  # there angle / sine is 1 + sine^2 / 6
    ratio = jnp.arctan2(sine, inner) / jnp.where(near, 1.0, sine)
    return jnp.where(near, 1.0, ratio) * across


def dot(x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*point 1"]:
    """The inner product of every point, with its last axis kept."""
    return jnp.sum(x * y, axis=-1, keepdims=True)


def length(u: Float[Array, "*shape"]) -> Float[Array, "*point 1"]:
    """`|u|` of every point, with its last axis kept; its derivative at 0 is 0."""
    square = dot(u, u)
    safe = jnp.where(square > 0, square, 1.0)
    return jnp.where(square > 0, jnp.sqrt(safe), 0.0)


def unit(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x / |x|`, with 0 where `x` is 0."""
    size = length(x)
    return x / jnp.where(size > 0, size, 1.0)


Square = Float[Array, "*point 1"]
"""A squared angle `q = theta^2`, of which the functions below are smooth, at 0 too."""


def _across(
    factor: Callable[[Square], Square], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """`w_along + factor w_across`, with respect to `u`."""
    q = dot(u, u)
    # Below 1e-4 radians the quotient keeps too few digits, but is multiplied by theta^2 there.
    excess = (1 - factor(jnp.maximum(q, LEAST))) / jnp.maximum(q, LEAST)
    return factor(q) * w + excess * dot(u, w) * u


def _sinc(q: Square) -> Square:
    """`sin(theta) / theta`."""
    far = q > 1.0
    theta = jnp.sqrt(jnp.where(far, q, 1.0))
    return jnp.where(far, jnp.sin(theta) / theta, odd_factorial_series(-q))


def _versine(q: Square) -> Square:
    """`(1 - cos(theta)) / theta^2`."""
    return _sinc(q / 4) ** 2 / 2


def _cos(q: Square) -> Square:
    """`cos(theta)`."""
    return 1 - q * _versine(q)


def _cotangent(q: Square) -> Square:
    """`theta cot(theta)`."""
    q = jnp.minimum(q, MOST**2)
    return _cos(q) / _sinc(q)


def _cosecant(q: Square) -> Square:
    """`theta / sin(theta)`."""
    return 1 / _sinc(jnp.minimum(q, MOST**2))
