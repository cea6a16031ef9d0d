"""Loss weights: how the residual of one row becomes its loss.

`R` is the residual of one row (any shape). A distance reads the residual alone; `Timed` puts a
weight in time (`core.times.weights`) before any of them. Whether `|R|^2` is the sum or the mean
over the dimensions, or of a text the mean over positions of the sum over symbols, matters for every
weight that has a constant, so it is a named field (`reduce`) of each. A weight that depends on the
sampled residual moves the minimiser away from the conditional mean, so oracle checks use `Squared`.
"""

import abc
import math
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.overriding import overridable
from core.times.unit import Times
from core.times.weights import TimeWeight

Reduce = Literal["sum", "mean", "positions"]


class Weight(eqx.Module):
    """The loss of one row as a function of its residual and times."""

    @abc.abstractmethod
    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        """A scalar loss; its gradient flows through `residual` only. `times` are unit times."""

    @overridable
    def declared(
        self, live: Float[Array, "*shape"], fixed: Float[Array, "*shape"], times: Times
    ) -> Float[Array, ""]:
        """The loss without a stop: `live` carries the gradient, `fixed` is the same as a number."""
        del fixed
        return self(live, times)


class Squared(Weight):
    """`|R|^2`, unweighted."""

    reduce: Reduce = eqx.field(static=True, default="sum")

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        del times
        return square(residual, self.reduce)


class Adaptive(Weight):
    """`|R|^2 / sg[(|R|^2 + c)^p]`: p = 0 squared, p = 1/2 like pseudo-Huber, p = 1 scale-free.

    With p = 1 the loss is near 1 whatever the fit: read the raw residual instead. Source: MeanFlow
    (arXiv 2505.13447), eq. 22, with p = 1, c = 0.01 on the sum over dimensions.
    """

    power: float = 1.0
    constant: float = 0.01
    reduce: Reduce = eqx.field(static=True, default="sum")

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        del times
        value = square(residual, self.reduce)
        return value * jax.lax.stop_gradient(value + self.constant) ** -self.power

    def declared(
        self, live: Float[Array, "*shape"], fixed: Float[Array, "*shape"], times: Times
    ) -> Float[Array, ""]:
        del times
        number = (square(fixed, self.reduce) + self.constant) ** self.power
        return square(live, self.reduce) / number


class PseudoHuber(Weight):
    """`sqrt(|R|^2 + c^2) - c`; a constant None is iCT's, `c = 0.00054 sqrt(dimension)`, for which
    `|R|^2` is a sum. Source: iCT (arXiv 2310.14189)."""

    constant: float | None = 0.03
    reduce: Reduce = eqx.field(static=True, default="sum")

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        del times
        c = 0.00054 * math.sqrt(residual.size) if self.constant is None else self.constant
        return jnp.sqrt(square(residual, self.reduce) + c**2) - c


class Cauchy(Weight):
    """`log(|R|^2 / scale + 1)`. Source: Decoupled MeanFlow (arXiv 2510.24474), without its head."""

    scale: float = 0.01
    reduce: Reduce = eqx.field(static=True, default="mean")

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        del times
        return jnp.log1p(square(residual, self.reduce) / self.scale)


class Norm(Weight):
    """`|R|`, the square root of `|R|^2`; its gradient is a unit vector, and 0 at `R = 0`.

    The minimiser is the geometric median, not the mean. Source: ECT (arXiv 2406.14548); GCM eq. 5.
    """

    reduce: Reduce = eqx.field(static=True, default="sum")

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        del times
        value = square(residual, self.reduce)
        safe = jnp.where(value > 0, value, 1.0)
        return jnp.where(value > 0, jnp.sqrt(safe), 0.0)


class TangentNorm(Weight):
    """`|R|^2 / sg[|R| + c]`: the gradient is that of a residual of length `|R| / (|R| + c)`.

    Source: sCM (arXiv 2410.11081), tangent normalisation, c = 0.1; Align Your Flow (arXiv
    2506.14603).
    """

    constant: float = 0.1
    reduce: Reduce = eqx.field(static=True, default="sum")

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        del times
        value = square(residual, self.reduce)
        return value / jax.lax.stop_gradient(jnp.sqrt(value) + self.constant)

    def declared(
        self, live: Float[Array, "*shape"], fixed: Float[Array, "*shape"], times: Times
    ) -> Float[Array, ""]:
        del times
        length = square(fixed, self.reduce) ** 0.5
        return square(live, self.reduce) / (length + self.constant)


class Timed(Weight):
    """`factor(times) distance(R)`: any weight in time with any distance."""

    factor: TimeWeight
    distance: Weight = Squared()

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        return self.factor(times) * self.distance(residual, times)

    def declared(
        self, live: Float[Array, "*shape"], fixed: Float[Array, "*shape"], times: Times
    ) -> Float[Array, ""]:
        return self.factor(times) * self.distance.declared(live, fixed, times)


class Scaled(Weight):
    """The loss of `factor(times) R`: a factor of the residual itself, before any weight sees it."""

    factor: TimeWeight
    weight: Weight = Squared()

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        return self.weight(self.factor(times) * residual, times)

    def declared(
        self, live: Float[Array, "*shape"], fixed: Float[Array, "*shape"], times: Times
    ) -> Float[Array, ""]:
        factor = self.factor(times)
        return self.weight.declared(factor * live, factor * fixed, times)


def square(residual: Float[Array, "*shape"], reduce: Reduce = "sum") -> Float[Array, ""]:
    """`|R|^2`, summed or averaged over the dimensions, in float32 at least; "positions": the sum
    over the last axis, averaged over the others."""
    wide = residual.astype(jnp.promote_types(residual.dtype, jnp.float32))
    if reduce == "positions":
        return jnp.mean(jnp.sum(wide**2, axis=-1))
    return jnp.sum(wide**2) if reduce == "sum" else jnp.mean(wide**2)
