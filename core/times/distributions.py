"""Distributions of a single time, with their densities.

All times here are unit times, in [0, 1] with 0 the data and 1 the noise: times of the linear
path. The density is for importance weights.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Key


class TimeDistribution(eqx.Module):
    """A distribution of one time on [0, 1]."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """`n` independent draws."""

    @abc.abstractmethod
    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The probability density at `time`."""


class Uniform(TimeDistribution):
    """Uniform on `[low, high]`, inside [0, 1]."""

    low: float = 0.0
    high: float = 1.0

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jr.uniform(key, (n,), minval=self.low, maxval=self.high)

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        inside = (time >= self.low) & (time <= self.high)
        return jnp.where(inside, 1 / (self.high - self.low), 0.0)


class Point(TimeDistribution):
    """Always the same time. It has no density: asking for one raises `ValueError`."""

    time: float

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        del key
        return jnp.full((n,), self.time)

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        raise ValueError("a point mass has no density; weights need another distribution")


class LogitNormal(TimeDistribution):
    """`sigmoid(mean + std N(0, 1))`: log-normal `sigma / alpha` with the same numbers, on any path.

    Source: Stable Diffusion 3 (arXiv 2403.03206), eq. 19; MeanFlow uses (-0.4, 1).
    """

    mean: float = -0.4
    std: float = 1.0

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return logistic(self.mean + self.std * jr.normal(key, (n,)))

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        safe = jnp.clip(time, 1e-6, 1 - 1e-6)
        logit = jnp.log(safe) - jnp.log1p(-safe)
        value = norm.pdf(logit, self.mean, self.std) / (safe * (1 - safe))
        return jnp.where((time > 0) & (time < 1), value, 0.0)


class ArctanLogNormal(TimeDistribution):
    """`2 / pi arctan(exp(mean + std N(0, 1)))`, a unit time. Source: FACM (arXiv 2507.03738).

    sCM's distribution, log-normal noise-to-signal, is `LogitNormal` in unit time.
    """

    mean: float = -0.8
    std: float = 1.6

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return 2 / jnp.pi * jnp.arctan(jnp.exp(self.mean + self.std * jr.normal(key, (n,))))

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        angle = jnp.clip(time, 1e-6, 1 - 1e-6) * jnp.pi / 2
        slope = jnp.pi / 2 / (jnp.sin(angle) * jnp.cos(angle))
        value = norm.pdf(jnp.log(jnp.tan(angle)), self.mean, self.std) * slope
        return jnp.where((time > 0) & (time < 1), value, 0.0)


class Sine(TimeDistribution):
    """Density proportional to `sin(pi / 2 (a y + b (1 - y)))`: rising towards the noise.

    Source: GCM, eqs. 15 and 41; a = 1, b = 0.01.
    """

    a: float = 1.0
    b: float = 0.01

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        ends = jnp.cos(jnp.pi / 2 * jnp.array([self.b, self.a]))
        level = ends[0] - jr.uniform(key, (n,)) * (ends[0] - ends[1])
        angle = 2 / jnp.pi * jnp.arccos(jnp.clip(level, -1.0, 1.0))
        return jnp.clip((angle - self.b) / (self.a - self.b), 0.0, 1.0)

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        ends = jnp.cos(jnp.pi / 2 * jnp.array([self.b, self.a]))
        scale = jnp.pi / 2 * (self.a - self.b) / (ends[0] - ends[1])
        value = scale * jnp.sin(jnp.pi / 2 * (self.a * time + self.b * (1 - time)))
        return jnp.where((time >= 0) & (time <= 1), value, 0.0)


class Cosh(TimeDistribution):
    """Density proportional to `cosh(a y + b (1 - y))`. Source: GCM, eqs. 16 and 42."""

    a: float = 1.5
    b: float = 0.0

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        low, high = jnp.sinh(jnp.array([self.b, self.a]))
        level = jnp.arcsinh(low + jr.uniform(key, (n,)) * (high - low))
        return jnp.clip((level - self.b) / (self.a - self.b), 0.0, 1.0)

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        low, high = jnp.sinh(jnp.array([self.b, self.a]))
        value = (self.a - self.b) / (high - low) * jnp.cosh(self.a * time + self.b * (1 - time))
        return jnp.where((time >= 0) & (time <= 1), value, 0.0)


class UniformPower(TimeDistribution):
    """`y_1 (1 - (1 - y_2)^(1 / power))` of two uniform numbers: mostly near the data.

    Its density, `int_t^1 power (1 - r)^(power - 1) / r dr`, is a sum for whole powers and grows
    like `-log t` at 0. Source: GCM, eq. 17; power 4, mean 0.1.
    """

    power: int = eqx.field(static=True, default=4)

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        key_share, key_reach = jr.split(key)
        reach = 1 - (1 - jr.uniform(key_reach, (n,))) ** (1 / self.power)
        return jr.uniform(key_share, (n,)) * reach

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        rest = 1 - jnp.clip(time, 0.0, 1.0)
        powers = sum((rest**k / k for k in range(1, self.power)), start=jnp.zeros_like(rest))
        value = self.power * (-jnp.log(jnp.maximum(time, 1e-12)) - powers)
        return jnp.where((time >= 0) & (time <= 1), value, 0.0)


class MixedDistribution(TimeDistribution):
    """A static mixture: the first `round(shares[0] n)` draws from `distributions[0]`, and so on."""

    distributions: tuple[TimeDistribution, ...]
    shares: tuple[float, ...] = eqx.field(static=True)

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        counts, keys = split_counts(n, self.shares), jr.split(key, len(self.distributions))
        return jnp.concatenate(
            [
                distribution.sample(k, m)
                for distribution, k, m in zip(self.distributions, keys, counts)
                if m > 0
            ]
        )

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        parts = [
            share * distribution.density(time)
            for distribution, share in zip(self.distributions, self.shares)
            if share
        ]
        return sum(parts[1:], start=parts[0])


def split_counts(n: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """`n` rows divided by `shares` (which sum to 1) into whole counts that sum to `n`.

    Raises `ValueError` where the shares are negative or do not sum to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must be non-negative and sum to 1, got {shares}")
    edges = [0] + [round(n * sum(shares[: i + 1])) for i in range(len(shares))]
    return tuple(b - a for a, b in zip(edges[:-1], edges[1:]))


def logistic(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The logistic function, kept strictly inside (0, 1) in float32."""
    return jnp.clip(jax.nn.sigmoid(x), 1e-6, 1 - 1e-6)
