"""Time samplers: distributions over `(s, t)`.

All times here are unit times, in [0, 1] with 0 the data and 1 the noise: times of the linear
path. `Path.time_of_unit` carries them to another path at equal noise-to-signal ratio.
One-dimensional laws carry their density, for importance weights.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import ndtr, ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Float, Int, Key


class TimeLaw(eqx.Module):
    """A distribution of one time on [0, 1]."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        """`n` independent draws."""

    @abc.abstractmethod
    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The probability density at `time`."""


class Uniform(TimeLaw):
    """Uniform on `[low, high]`, inside [0, 1]."""

    low: float = 0.0
    high: float = 1.0

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return jr.uniform(key, (n,), minval=self.low, maxval=self.high)

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        inside = (time >= self.low) & (time <= self.high)
        return jnp.where(inside, 1 / (self.high - self.low), 0.0)


class Point(TimeLaw):
    """Always the same time. It has no density: asking for one raises `ValueError`."""

    time: float

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        del key
        return jnp.full((n,), self.time)

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        raise ValueError("a point mass has no density: use another law where weights need one")


class LogitNormal(TimeLaw):
    """`sigmoid(mean + std N(0, 1))`: log-normal `sigma / alpha` with the same numbers, on any path.

    Source: Stable Diffusion 3 (arXiv 2403.03206), eq. 19; MeanFlow uses (-0.4, 1).
    """

    mean: float = -0.4
    std: float = 1.0

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return _logistic(self.mean + self.std * jr.normal(key, (n,)))

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        safe = jnp.clip(time, 1e-6, 1 - 1e-6)
        logit = jnp.log(safe) - jnp.log1p(-safe)
        value = norm.pdf(logit, self.mean, self.std) / (safe * (1 - safe))
        return jnp.where((time > 0) & (time < 1), value, 0.0)


class ArctanLogNormal(TimeLaw):
    """`2 / pi arctan(exp(mean + std N(0, 1)))`, a unit time. Source: FACM (arXiv 2507.03738).

    sCM's law, log-normal noise-to-signal, is `LogitNormal` in unit time.
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


class MixedLaw(TimeLaw):
    """A static mixture: the first `round(shares[0] n)` draws from `laws[0]`, and so on."""

    laws: tuple[TimeLaw, ...]
    shares: tuple[float, ...] = eqx.field(static=True)

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        counts, keys = split_counts(n, self.shares), jr.split(key, len(self.laws))
        return jnp.concatenate(
            [law.sample(k, m) for law, k, m in zip(self.laws, keys, counts) if m > 0]
        )

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        parts = [share * law.density(time) for law, share in zip(self.laws, self.shares) if share]
        return sum(parts[1:], start=parts[0])


class TimeSampler(eqx.Module):
    """A distribution over pairs `(s, t)` of source and target time."""

    @abc.abstractmethod
    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """`n` pairs `(s, t)`, unit times in [0, 1].

        `progress` is the fraction of the training that is done, in [0, 1], for curricula."""


class Diagonal(TimeSampler):
    """`s = t`, drawn from `law`."""

    law: TimeLaw = LogitNormal()

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        t = self.law.sample(key, n)
        return t, t


class OrderedPair(TimeSampler):
    """One draw from each of two laws; `s` is the larger, `t` the smaller.

    With two uniforms this is the uniform triangle; with two logit-normals MeanFlow's sampler.
    """

    first: TimeLaw = LogitNormal()
    second: TimeLaw = LogitNormal()

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_first, key_second = jr.split(key)
        a, b = self.first.sample(key_first, n), self.second.sample(key_second, n)
        return jnp.maximum(a, b), jnp.minimum(a, b)


class Capped(TimeSampler):
    """`s` from one law, `t = min(draw of the other, s)`. Used by MeanFlow's CIFAR-10 preset."""

    source: TimeLaw = LogitNormal(-0.6, 1.6)
    target: TimeLaw = LogitNormal(-4.0, 1.6)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_source, key_target = jr.split(key)
        s = self.source.sample(key_source, n)
        return s, jnp.minimum(self.target.sample(key_target, n), s)


class Gap(TimeSampler):
    """The gap `d` from `gap`, then `t` uniform on `[0, 1 - d]` and `s = t + d`.

    Source: Align Your Flow (arXiv 2506.14603), logit-normal gap with (-0.8, 1).
    """

    gap: TimeLaw = LogitNormal(-0.8, 1.0)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_gap, key_target = jr.split(key)
        d = self.gap.sample(key_gap, n)
        t = (1 - d) * jr.uniform(key_target, (n,))
        return jnp.minimum(t + d, 1.0), t


class TruncatedGap(TimeSampler):
    """The gap `d` from `gap`, then `t` from a logit-normal truncated to `[0, 1 - d]`, `s = t + d`.

    Source: TVM (arXiv 2511.19797): gap (-0.8, 1), target (-0.4, 1).
    """

    gap: TimeLaw = LogitNormal(-0.8, 1.0)
    mean: float = -0.4
    std: float = 1.0

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_gap, key_target = jr.split(key)
        d = self.gap.sample(key_gap, n)
        top = ndtr((jnp.log1p(-d) - jnp.log(d) - self.mean) / self.std)
        level = top * jr.uniform(key_target, (n,), minval=1e-6, maxval=1.0)
        t = jnp.minimum(_logistic(self.mean + self.std * ndtri(level)), 1 - d)
        return jnp.minimum(t + d, 1.0), t


class EitherOrder(TimeSampler):
    """The pairs of `pair`, half of them exchanged: maps in both directions of time.

    The gap is at most `start (1 / start)^progress`, growing from `start` to 1.
    """

    pair: TimeSampler
    start: float = eqx.field(static=True, default=1.0)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        s, t = self.pair(key, n, progress)
        widest = self.start ** (1 - jnp.asarray(progress, s.dtype))
        t = s + (t - s) * widest
        swap = jnp.arange(n) % 2 == 0
        return jnp.where(swap, t, s), jnp.where(swap, s, t)


class DyadicJumps(TimeSampler):
    """Jumps of sizes 2^-k, `k = 0 .. depth - 1`, on the grid of the size: `s = j 2^-k`.

    The size is uniform over those that the ladder has reached: with `climb` stage `i` of `depth`
    adds the size `2^(i + 1 - depth)`, which gets half of the rows; without, all are there from the
    start. Source: shortcut models (arXiv 2410.12557), section 3.2; progressive distillation (arXiv
    2202.00512), algorithm 2.
    """

    depth: int = eqx.field(static=True, default=7)
    climb: bool = eqx.field(static=True, default=False)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        key_size, key_place, key_new = jr.split(key, 3)
        stage = stage_of(progress, self.depth) if self.climb else jnp.asarray(self.depth - 1)
        rung = jnp.floor(jr.uniform(key_size, (n,)) * (stage + 1)).astype(jnp.int32)
        if self.climb:
            rung = jnp.where(jr.bernoulli(key_new, 0.5, (n,)), stage, rung)
        size = 2.0 ** (rung + 1 - self.depth)
        place = jnp.floor(jr.uniform(key_place, (n,)) / size)
        return (place + 1) * size, place * size


class GrowingWindow(TimeSampler):
    """Gaps uniform in `(0, 2^(i + 1 - stages)]` at stage `i`, `t` uniform in what is left.

    Source: progressive flow map matching (arXiv 2406.07507), section 3.4.
    """

    stages: int = eqx.field(static=True, default=5)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        key_gap, key_target = jr.split(key)
        window = 2.0 ** (stage_of(progress, self.stages) + 1 - self.stages)
        gap = window * jr.uniform(key_gap, (n,))
        t = (1 - gap) * jr.uniform(key_target, (n,))
        return t + gap, t


class GridNeighbours(TimeSampler):
    """Neighbouring nodes `(s, u)` of a grid that is refined: the second time is the neighbour.

    The grid has `N` intervals, uniform in `sigma^(1/rho)` on `[sigma_min, sigma_max]` (EDM's) with
    `sigma` the noise-to-signal ratio, that is `sigma / (1 + sigma)` in unit time; its first and
    last nodes are moved to 0 and 1. With `rho = 0` they are evenly spaced in unit time. `N` grows
    as in consistency training,

        N(k) = ceil(sqrt(progress ((s_1 + 1)^2 - s_0^2) + s_0^2) - 1),

    and stays `s_1` where `s_0 = s_1`. Source: Consistency Models (arXiv 2303.01469), appendix C.
    """

    first: int = eqx.field(static=True, default=10)
    last: int = eqx.field(static=True, default=10)
    rho: float = eqx.field(static=True, default=7.0)
    sigma_min: float = eqx.field(static=True, default=0.002)
    sigma_max: float = eqx.field(static=True, default=80.0)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        low, high = self.first**2, (self.last + 1) ** 2
        refined = jnp.ceil(jnp.sqrt(progress * (high - low) + low) - 1)
        count = jnp.clip(refined, self.first, self.last)
        index = jnp.floor(jr.uniform(key, (n,)) * count)
        return self.node((index + 1) / count), self.node(index / count)

    def node(self, fraction: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The unit time of a node: `fraction` 0 is the data end, 1 the noise end."""
        if self.rho == 0:
            return fraction
        a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = (a + fraction * (b - a)) ** self.rho
        inside = sigma / (1 + sigma)
        return jnp.where(fraction <= 0, 0.0, jnp.where(fraction >= 1, 1.0, inside))


CLIMB = 0.6
"""Fraction of a staged training over which the stages begin; the last one has the rest too."""


def stage_of(progress: Array, stages: int) -> Int[Array, "*n"]:
    """The stage, 0 to `stages - 1`. All stages but the last are equally long."""
    done = jnp.floor(jnp.asarray(progress) / CLIMB * stages + 1e-4)
    return jnp.clip(done, 0, stages - 1).astype(jnp.int32)


def stage_length(steps: int, stages: int) -> int:
    """Steps of each stage but the last."""
    return max(round(CLIMB * steps / stages), 1)


class Mixture(TimeSampler):
    """A static mixture: the first `round(shares[0] n)` pairs from `samplers[0]`, and so on.

    `shares` must sum to 1. The split is static, so each part keeps its own shape and cost.
    """

    samplers: tuple[TimeSampler, ...]
    shares: tuple[float, ...] = eqx.field(static=True)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        counts = split_counts(n, self.shares)
        keys = jr.split(key, len(self.samplers))
        pairs = [f(k, m, progress) for f, k, m in zip(self.samplers, keys, counts) if m > 0]
        return jnp.concatenate([s for s, _ in pairs]), jnp.concatenate([t for _, t in pairs])


def split_counts(n: int, shares: tuple[float, ...]) -> tuple[int, ...]:
    """`n` rows divided by `shares` (which sum to 1) into whole counts that sum to `n`.

    Raises `ValueError` where the shares are negative or do not sum to 1.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares must be non-negative and sum to 1, got {shares}")
    edges = [0] + [round(n * sum(shares[: i + 1])) for i in range(len(shares))]
    return tuple(b - a for a, b in zip(edges[:-1], edges[1:]))


def _logistic(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The logistic function, kept strictly inside (0, 1) in float32."""
    return jnp.clip(jax.nn.sigmoid(x), 1e-6, 1 - 1e-6)
