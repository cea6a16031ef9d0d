"""Spaces that states live in: flat space by default, or a Riemannian manifold.

A flow map jumps along a geodesic, `F(x_s, s, t) = exp_x((t - s) V)`, and all three rules keep their
form when a few functions of the space are used. With `u = (t - s) V(x, s, t)`,

    Eulerian       V = source_pull(x, u, v) + (t - s) DV_ds
    Lagrangian     V + (t - s) dV_dt = target_pull(x, u, v(F, t))
    compositional  V = join(x, (w - s) V_1, (t - w) V_2) / (t - s)

In `Euclidean` each of them is the identity or a sum. Points and tangent vectors are arrays of one
shape, the coordinates of a point along the last axis and equal factors along the axes before it;
the sum of squares of a tangent vector is its squared length.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.errors import UserError
from core.overriding import overridable


class Space(eqx.Module):
    """A space: its geodesics, its tangent spaces, and how a network sees it.

    A subclass gives `exp`, `log`, `tangent`, `project` and `uniform` or `noise`. The derivatives of
    geodesics follow from these by automatic differentiation; closed forms are quicker and finite in
    more places. All functions act on one example `(*factors, coordinates)`.
    """

    @property
    @overridable
    def flat(self) -> bool:
        """Whether this is plain flat space, in which every method works; static."""
        return False

    @property
    @overridable
    def name(self) -> str:
        """How messages call it."""
        return type(self).__name__.lower()

    @abc.abstractmethod
    def exp(self, x: Float[Array, "*shape"], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The end of the geodesic that starts at `x` with velocity `u` and lasts for time 1."""

    @abc.abstractmethod
    def log(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The velocity at `x` of the shortest geodesic to `y`, the inverse of `exp`."""

    @abc.abstractmethod
    def tangent(
        self, x: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """The part of `w` that is tangent at `x`; of outputs, and of derivatives along `x`."""

    @abc.abstractmethod
    def project(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The point of the space nearest to `x`, which is near the space."""

    @overridable
    def uniform(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """A uniform draw. Raises `UserError` in a space of infinite volume."""
        raise UserError(
            f"{self.name} has no uniform distribution; give it a noise distribution of its own"
        )

    @overridable
    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """A draw of the distribution at the noise end: uniform, unless the space has another."""
        return self.uniform(key, shape)

    @overridable
    def push(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], g: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """`D exp_x(u)[g]`: how the end of the jump `u` moves when `u` moves by `g`."""
        return jax.jvp(lambda w: self.exp(x, w), (u,), (g,))[1]

    @overridable
    def source_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], v: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """`-D_x log_x(y)[v]` at fixed `y = exp_x(u)`: how the jump shrinks when its start moves."""
        y = self.exp(x, u)
        moved = jax.jvp(lambda start: self.log(start, y), (x,), (v,))[1]
        return self.tangent(x, -moved)

    @overridable
    def target_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """`D_y log_x(y)[w]` at `y = exp_x(u)`, `w` tangent there: the inverse of `push`."""
        moved = jax.jvp(lambda end: self.log(x, end), (self.exp(x, u),), (w,))[1]
        return self.tangent(x, moved)

    @overridable
    def join(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """The jump from `x` that ends where `u` and then `w`, tangent at the end of `u`, end."""
        return self.log(x, self.exp(self.exp(x, u), w))

    @overridable
    def distance(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, ""]:
        """The length of the shortest geodesic; of factors, the root of the sum of squares."""
        square = jnp.sum(self.log(x, y) ** 2)
        safe = jnp.where(square > 0, square, 1.0)
        return jnp.where(square > 0, jnp.sqrt(safe), 0.0)

    @overridable
    def corrected(
        self,
        x: Float[Array, "*shape"],
        u: Float[Array, "*shape"],
        w: Float[Array, "*shape"],
        v: Float[Array, "*shape"],
    ) -> Float[Array, "*shape"]:
        """`v + source_pull(x, u, w) - w`: what curvature changes of a velocity `w`, added to `v`.

        No gradient passes through the change.
        """
        return v + jax.lax.stop_gradient(self.source_pull(x, u, w) - w)

    @overridable
    def mean(
        self,
        x: Float[Array, "*shape"],
        gap: Float[Array, ""],
        fraction: Float[Array, ""],
        first: Float[Array, "*shape"],
        second: Float[Array, "*shape"],
    ) -> Float[Array, "*shape"]:
        """The average velocity over a time `gap` of two jumps, of velocity `first` for the share
        `1 - fraction` of it, then `second`: `join` over the gap, and finite at no gap."""
        legs = (1 - fraction) * gap * first, fraction * gap * second
        apart = gap != 0
        joined = self.join(x, *legs) / jnp.where(apart, gap, 1.0)
        return jnp.where(apart, joined, (1 - fraction) * first + fraction * second)

    @overridable
    def features(self, x: Float[Array, "*shape"]) -> Float[Array, "..."]:
        """What a network sees of the point: a smooth function of it."""
        return x

    @overridable
    def from_network(
        self, x: Float[Array, "*shape"], out: Float[Array, "..."]
    ) -> Float[Array, "*shape"]:
        """The tangent vector at `x` that the output of a network means."""
        return self.tangent(x, out)

    @overridable
    def feature_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of `features` of a point of this shape."""
        return shape

    @overridable
    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the output that `from_network` takes, for a point of this shape."""
        return shape


class Parallel(Space):
    """A space without curvature: tangent vectors are the same everywhere, and jumps add up."""

    def tangent(
        self, x: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        del x
        return w

    def push(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], g: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        del x, u
        return g

    def source_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], v: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        del x, u
        return v

    def target_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        del x, u
        return w

    def join(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        del x
        return u + w


class Euclidean(Parallel):
    """Flat space of any dimension: every function is a sum or the identity."""

    @property
    def flat(self) -> bool:
        return True

    def exp(self, x: Float[Array, "*shape"], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x + u

    def log(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return y - x

    def project(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """A standard normal draw."""
        return jr.normal(key, shape)

    def corrected(
        self,
        x: Float[Array, "*shape"],
        u: Float[Array, "*shape"],
        w: Float[Array, "*shape"],
        v: Float[Array, "*shape"],
    ) -> Float[Array, "*shape"]:
        del x, u, w
        return v

    def mean(
        self,
        x: Float[Array, "*shape"],
        gap: Float[Array, ""],
        fraction: Float[Array, ""],
        first: Float[Array, "*shape"],
        second: Float[Array, "*shape"],
    ) -> Float[Array, "*shape"]:
        del x, gap
        return (1 - fraction) * first + fraction * second
