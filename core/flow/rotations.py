"""Rotations in three dimensions, as unit quaternions up to sign."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.space import Space
from core.flow.sphere import Sphere, dot, joined_parts, jump_from_parts, unit

SPHERE = Sphere()


class SO3(Space):
    """Rotations as unit quaternions `(*factors, 4)`, scalar part first; `x` and `-x` are one.

    Geodesics are those of the sphere to whichever of `y` and `-y` is nearer. Distances are angles
    between quaternions, at most `pi / 2`: half the angle of the rotation. A network sees the nine
    entries of the matrix, so that it cannot tell `x` from `-x`, and returns the three components of
    the angular velocity in the body's frame: `V = x (0, omega) / 2`, odd in `x`.
    """

    def exp(self, x: Float[Array, "*shape"], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return SPHERE.exp(x, u)

    def log(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return SPHERE.log(x, nearer(x, y))

    def tangent(
        self, x: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return SPHERE.tangent(x, w)

    def project(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return unit(x)

    def uniform(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        return unit(jr.normal(key, shape))

    def push(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], g: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return SPHERE.push(x, u, g)

    def source_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], v: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return SPHERE.source_pull(x, u, v)

    def target_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return SPHERE.target_pull(x, u, w)

    def join(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        inner, across = joined_parts(x, u, w)
        sign = jnp.where(inner < 0, -1.0, 1.0)
        return jump_from_parts(sign * inner, sign * across)

    def features(self, x: Float[Array, "*shape"]) -> Float[Array, "..."]:
        R = matrix(x)
        return R.reshape(*R.shape[:-2], 9)

    def from_network(
        self, x: Float[Array, "*shape"], out: Float[Array, "..."]
    ) -> Float[Array, "*shape"]:
        omega = jnp.concatenate([jnp.zeros_like(out[..., :1]), out], axis=-1)
        return multiply(x, omega) / 2

    def feature_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], 9)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (*shape[:-1], 3)


def nearer(x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Of `y` and `-y` the one nearer to `x`."""
    return jnp.where(dot(x, y) < 0, -y, y)


def multiply(x: Float[Array, "*point 4"], y: Float[Array, "*point 4"]) -> Float[Array, "*point 4"]:
    """The product of quaternions: the rotation `y`, then `x`."""
    a, b, c, d = jnp.moveaxis(x, -1, 0)
    e, f, g, h = jnp.moveaxis(y, -1, 0)
    parts = (
        a * e - b * f - c * g - d * h,
        a * f + b * e + c * h - d * g,
        a * g - b * h + c * e + d * f,
        a * h + b * g - c * f + d * e,
    )
    return jnp.stack(parts, axis=-1)


def matrix(x: Float[Array, "*point 4"]) -> Float[Array, "*point 3 3"]:
    """The rotation matrix of a unit quaternion, quadratic in `x`."""
    a, b, c, d = jnp.moveaxis(x, -1, 0)
    rows = (
        (a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)),
        (2 * (b * c + a * d), a * a - b * b + c * c - d * d, 2 * (c * d - a * b)),
        (2 * (b * d - a * c), 2 * (c * d + a * b), a * a - b * b - c * c + d * d),
    )
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion(R: Float[Array, "*point 3 3"]) -> Float[Array, "*point 4"]:
    """A unit quaternion of a rotation matrix, accurate for every angle: of the four that follow
    from one entry of the diagonal each, the one that divides by most."""
    xx, yy, zz = R[..., 0, 0], R[..., 1, 1], R[..., 2, 2]
    b, c, d = R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]
    e, f, g = R[..., 1, 0] + R[..., 0, 1], R[..., 0, 2] + R[..., 2, 0], R[..., 2, 1] + R[..., 1, 2]
    one = jnp.ones_like(xx)
    rows = (
        (one + xx + yy + zz, b, c, d),
        (b, one + xx - yy - zz, e, f),
        (c, e, one - xx + yy - zz, g),
        (d, f, g, one - xx - yy + zz),
    )
    table = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)  # 4 q q^T
    best = jnp.argmax(jnp.diagonal(table, axis1=-2, axis2=-1), axis=-1)
    return unit(jnp.take_along_axis(table, best[..., None, None], axis=-2)[..., 0, :])
