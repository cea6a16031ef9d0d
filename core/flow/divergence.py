"""The divergence of a velocity field: at a point, exact or estimated with one probe, and along a
jump, learned."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.flow.network import Network

Field = Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]
AT_ONCE = 64
"""Columns of a Jacobian that are taken at once, so that its memory is bounded."""


def along_axes(
    x: Float[Array, "*shape"], f: Callable[[Float[Array, "*shape"], Array], Array]
) -> Array:
    """`f(direction, i)` for the unit vector along each number `i` of `x`, some at a time."""

    def one(i: Array) -> Array:
        return f(jnp.zeros(x.size, x.dtype).at[i].set(1.0).reshape(x.shape), i)

    return jax.lax.map(one, jnp.arange(x.size), batch_size=min(AT_ONCE, x.size))


class Divergence(eqx.Module):
    """How `div v(x) = sum_i dv_i / dx_i` is taken."""

    @abc.abstractmethod
    def probe(
        self, x: Float[Array, "*shape"], key: Key[Array, ""]
    ) -> Float[Array, "*shape"] | None:
        """What stays the same along a trajectory: a random direction, or None."""

    @abc.abstractmethod
    def __call__(
        self, field: Field, x: Float[Array, "*shape"], probe: Float[Array, "*shape"] | None
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        """`(v(x), div v(x))`."""


class ExactDivergence(Divergence):
    """The trace of the Jacobian, by as many Jacobian-vector products of one linearisation as `x`
    has numbers."""

    def probe(self, x: Float[Array, "*shape"], key: Key[Array, ""]) -> None:
        del x, key

    def __call__(
        self, field: Field, x: Float[Array, "*shape"], probe: Float[Array, "*shape"] | None
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        del probe
        value, push = jax.linearize(field, x)

        entries = along_axes(x, lambda direction, i: push(direction).ravel()[i])
        return value, jnp.sum(entries)


class Hutchinson(Divergence):
    """`e . (grad v) e` with a random `e` of entries +-1: right in the mean, by one product.

    Its variance is `2 (|S|^2 - |diag S|^2)`, `S` the symmetric part of the Jacobian: none at all
    where that is diagonal. One `e` serves a whole trajectory (FFJORD, arXiv 1810.01367). A mean of
    `exp` of such an estimate is biased, so importance weights take the exact one.
    """

    def probe(self, x: Float[Array, "*shape"], key: Key[Array, ""]) -> Float[Array, "*shape"]:
        return jr.rademacher(key, x.shape, x.dtype)

    def __call__(
        self, field: Field, x: Float[Array, "*shape"], probe: Float[Array, "*shape"] | None
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        assert probe is not None
        value, slope = jax.jvp(field, (x,), (probe,))
        return value, jnp.sum(probe * slope)


DIVERGENCE = "divergence"
"""Name of the player that is a divergence head."""


class DivergenceHead(eqx.Module):
    """The mean divergence of the velocity along a jump, divided by the numbers of an example.

        D(x_s, s, t) = 1 / (t - s) * integral from s to t of div v(x_u, u) du / size,
        log |det dF(x_s, s, t)/dx| = size (t - s) D(x_s, s, t),      D(x, t, t) = div v(x, t) / size

    It is the mean of a network's outputs, and `size` its unit: gradients of the plain divergence
    grow as the square of that. Source: F2D2 (arXiv 2512.02636), section 3.
    """

    net: Network
    path: Interpolant

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, ""]:
        """`D(x_s, s, t)` of one example; the times are those of the path, in either order."""
        times = self.path.unit_time(s), self.path.unit_time(t)
        return jnp.mean(self.net(x, *times, cond))
