"""Weights in time: how much a row counts by its times, whatever its residual.

All times are unit times; `sigma = s / (1 - s)` is the noise-to-signal ratio.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.times.distributions import TimeDistribution
from core.times.unit import Times


class TimeWeight(eqx.Module):
    """A positive factor of the loss of a row."""

    @abc.abstractmethod
    def __call__(self, times: Times) -> Float[Array, ""]:
        """The factor, from the unit times `times.s`, `times.u` and `times.t`."""


class Even(TimeWeight):
    """The same at all times."""

    level: float = eqx.field(static=True, default=1.0)

    def __call__(self, times: Times) -> Float[Array, ""]:
        return jnp.full_like(times.s, self.level)


class Ramp(TimeWeight):
    """`min(1, s / floor)`: times it a velocity `(x - g) / s` is `(x - g) / max(s, floor)`."""

    floor: float = 0.05

    def __call__(self, times: Times) -> Float[Array, ""]:
        return jnp.minimum(1.0, times.s / self.floor)


class PerGap(TimeWeight):
    """`(s - u)^-power`, for a difference between neighbours whose size is that of the gap.

    Power 2 weights velocities evenly over time.
    """

    power: float = 1.0

    def __call__(self, times: Times) -> Float[Array, ""]:
        return jnp.maximum(times.s - times.u, 1e-6) ** -self.power


class PerNoiseGap(TimeWeight):
    """`(sigma_s - sigma_u)^-power`, where `s = 1` stands for the ratio `most`.

    The sources' grids end at sigma 80. Here the last node is moved to `s = 1`, where one-step
    sampling starts and sigma is infinite: without `most` just those rows would count for nothing.
    Source: iCT (arXiv 2310.14189), section 3.2; ECT uses it too; `power = 1`.
    """

    most: float = 80.0
    power: float = 1.0

    def __call__(self, times: Times) -> Float[Array, ""]:
        sigma = jnp.minimum(_sigma(times.s), self.most)
        return jnp.maximum(sigma - _sigma(times.u), 1e-6) ** -self.power


class EdmWeight(TimeWeight):
    """`(sigma^2 + d^2) / (sigma d)^2`, with `d` the data's standard deviation.

    Source: EDM (arXiv 2206.00364), table 1; ECT on ImageNet.
    """

    data_std: float = 0.5

    def __call__(self, times: Times) -> Float[Array, ""]:
        sigma, d = _sigma(times.s), self.data_std
        return (sigma**2 + d**2) / jnp.maximum(sigma * d, 1e-6) ** 2


class SineWeight(TimeWeight):
    """`sin(pi s / 2)`. Source: FACM (arXiv 2507.03738), section 3.3."""

    def __call__(self, times: Times) -> Float[Array, ""]:
        return jnp.sin(jnp.pi / 2 * times.s)


class GammaWeight(TimeWeight):
    """`s^power e^(-decay s)`. Source: GCM, section 3.3; power 1, decay 6 on a uniform `s`."""

    power: float = 1.0
    decay: float = 6.0

    def __call__(self, times: Times) -> Float[Array, ""]:
        return times.s**self.power * jnp.exp(-self.decay * times.s)


class ImmWeight(TimeWeight):
    """`sigmoid(b - lambda) (-d lambda / ds) alpha^a / (2 (alpha^2 + sigma^2))`, linear path.

    `lambda = 2 log(alpha / sigma)`, so that `-d lambda / ds = 2 / (s (1 - s))`. Source: IMM (arXiv
    2503.07565), eq. 13; a = 1, b = 5 for CIFAR-10, b = 4 for latents.
    """

    a: float = 1.0
    b: float = 5.0

    def __call__(self, times: Times) -> Float[Array, ""]:
        s = jnp.clip(times.s, 1e-3, 1 - 1e-3)
        level = 2 * (jnp.log1p(-s) - jnp.log(s))
        slope = 2 / (s * (1 - s))
        share = (1 - s) ** self.a / ((1 - s) ** 2 + s**2)
        return jax.nn.sigmoid(self.b - level) * slope * share / 2


class Importance(TimeWeight):
    """`1 / p(y)`, where `y` is the place of `s` between `t` and 1 and `p` its density.

    It takes the distribution of `s` back out of a weight that was chosen for a uniform one. `p` is
    floored, since a density may vanish at an end.
    """

    distribution: TimeDistribution
    floor: float = 0.02

    def __call__(self, times: Times) -> Float[Array, ""]:
        place = (times.s - times.t) / jnp.maximum(1 - times.t, 1e-6)
        return 1 / jnp.maximum(self.distribution.density(place), self.floor)


class Product(TimeWeight):
    """The product of several weights."""

    parts: tuple[TimeWeight, ...]

    def __call__(self, times: Times) -> Float[Array, ""]:
        return jnp.prod(jnp.stack([part(times) for part in self.parts]))


def _sigma(s: Float[Array, ""]) -> Float[Array, ""]:
    return s / jnp.maximum(1 - s, 1e-6)
