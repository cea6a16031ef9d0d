"""Energies whose normaliser is known: targets `exp(-E) / Z` of a Boltzmann generator."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import require
from core.oracle.mixture import eight_gaussians
from core.overriding import overridable
from core.registry import Registry


class Energy(eqx.Module):
    """`E(x)` of one example of shape `shape`; the target density is `exp(-E(x)) / Z`."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """The shape of an example."""

    @property
    @abc.abstractmethod
    def log_z(self) -> float:
        """`log Z`, the logarithm of the integral of `exp(-E)`."""

    @overridable
    def sized(self, shape: tuple[int, ...]) -> "Energy":
        """The energy of examples of this shape. Raises `UserError` where there is none."""
        require(
            self.shape == shape,
            f"--target is an energy of examples of shape {self.shape}, and the model makes such of "
            f"{shape}",
        )
        return self

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        """The energy, without a unit (in units of the temperature)."""


class DoubleWell(Energy):
    """`E = x_1^4 - 4 x_1^2 + sum of the other x_i^2 / 2`: two equal wells at `x_1 = +-sqrt 2`, with
    a barrier of 4 between them."""

    size: int = eqx.field(static=True, default=2)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.size,)

    @property
    def log_z(self) -> float:
        """By quadrature in the first number, to 1e-12."""
        nodes = np.linspace(-5, 5, 20_001)
        first = np.log(np.trapezoid(np.exp(4 * nodes**2 - nodes**4), nodes))
        return float(first + (self.size - 1) * 0.5 * np.log(2 * np.pi))

    def sized(self, shape: tuple[int, ...]) -> "Energy":
        return DoubleWell(shape[0]) if len(shape) == 1 else super().sized(shape)

    def __call__(self, x: Float[Array, " size"]) -> Float[Array, ""]:
        return x[0] ** 4 - 4 * x[0] ** 2 + 0.5 * jnp.sum(x[1:] ** 2)


MUELLER = np.array(
    # depth, xx, xy, yy, centre x, centre y
    [
        [-200.0, -1.0, 0.0, -10.0, 1.0, 0.0],
        [-100.0, -1.0, 0.0, -10.0, 0.0, 0.5],
        [-170.0, -6.5, 11.0, -6.5, -0.5, 1.5],
        [15.0, 0.7, 0.6, 0.7, -1.0, 1.0],
    ]
)


class Mueller(Energy):
    """The potential of Müller and Brown (1979) in the plane, times 0.15 and with its lowest value
    near 0: three wells along a bent valley."""

    scale: float = eqx.field(static=True, default=0.15)
    offset: float = eqx.field(static=True, default=146.7)

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    @property
    def log_z(self) -> float:
        """By the trapezoidal rule on a grid of 1,601 by 1,601 points."""
        x, y = np.linspace(-3, 2.5, 1601), np.linspace(-1.5, 3.5, 1601)
        values = np.exp(-self._of(x[:, None], y[None, :], np))
        return float(np.log(np.trapezoid(np.trapezoid(values, y, axis=1), x)))

    def __call__(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        return self._of(x[0], x[1], jnp)

    def _of(self, x: Any, y: Any, xp: Any) -> Any:
        total = 0.0
        for depth, xx, xy, yy, at_x, at_y in MUELLER:
            u, v = x - at_x, y - at_y
            total = total + depth * xp.exp(xx * u**2 + xy * u * v + yy * v**2)
        return self.scale * (total + self.offset)


class EightGaussians(Energy):
    """`-log p` of the data set `eight-gaussians`, whose `Z` is 1."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (2,)

    @property
    def log_z(self) -> float:
        return 0.0

    def __call__(self, x: Float[Array, " 2"]) -> Float[Array, ""]:
        from core.flow.path import LinearPath

        return -eight_gaussians().log_prob(LinearPath(), x, jnp.zeros(()))


ENERGIES: Registry[Energy] = Registry(
    "target",
    {"double-well": DoubleWell(), "mueller": Mueller(), "eight-gaussians": EightGaussians()},
)
"""Energies by the name that `apps.tilt --target` takes."""
