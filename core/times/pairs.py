"""Time samplers: distributions over pairs `(s, t)` of source and target time.

All times here are unit times, in [0, 1] with 0 the data and 1 the noise: times of the linear
path. `Path.time_of_unit` carries them to another path at equal noise-to-signal ratio.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import ndtr, ndtri
from jaxtyping import Array, Float, Int, Key

from core.times.distributions import LogitNormal, TimeDistribution, logistic, split_counts
from core.times.steps import NodeGrid


class TimeSampler(eqx.Module):
    """A distribution over pairs `(s, t)` of source and target time."""

    @abc.abstractmethod
    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """`n` pairs `(s, t)`, unit times in [0, 1].

        `progress` is the fraction of the training that is done, in [0, 1], for curricula."""


class Diagonal(TimeSampler):
    """`s = t`, drawn from `distribution`."""

    distribution: TimeDistribution = LogitNormal()

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        t = self.distribution.sample(key, n)
        return t, t


class OrderedPair(TimeSampler):
    """One draw from each of two distributions; `s` is the larger, `t` the smaller.

    With two uniforms this is the uniform triangle; with two logit-normals MeanFlow's sampler.
    """

    first: TimeDistribution = LogitNormal()
    second: TimeDistribution = LogitNormal()

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_first, key_second = jr.split(key)
        a, b = self.first.sample(key_first, n), self.second.sample(key_second, n)
        return jnp.maximum(a, b), jnp.minimum(a, b)


class Capped(TimeSampler):
    """`s` from one distribution, `t = min(draw of the other, s)`; MeanFlow's CIFAR-10 preset."""

    source: TimeDistribution = LogitNormal(-0.6, 1.6)
    target: TimeDistribution = LogitNormal(-4.0, 1.6)

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

    gap: TimeDistribution = LogitNormal(-0.8, 1.0)

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

    gap: TimeDistribution = LogitNormal(-0.8, 1.0)
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
        t = jnp.minimum(logistic(self.mean + self.std * ndtri(level)), 1 - d)
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


class BothWays(TimeSampler):
    """The pairs of `pair`, of which a `share`, evenly spread, is exchanged: jumps to noise."""

    pair: TimeSampler
    share: float = eqx.field(static=True)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        s, t = self.pair(key, n, progress)
        place = np.arange(n + 1)
        swap = np.diff(np.floor(place * self.share + 0.5)) > 0
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
    """Gaps uniform in `(0, 2^(i + 1 - stages)]` at stage `i`, `t` uniform in the rest.

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


class GridSource(TimeSampler):
    """A node of a grid above the data end for `s`, and the data end for `t`.

    Uniform over the intervals, of which `s` is the upper end; with `std > 0` the interval is that
    of a log-normal noise-to-signal ratio, so that its probability is the difference of two normal
    distribution functions. Source: Consistency Models (arXiv 2303.01469), algorithm 2; iCT (arXiv
    2310.14189), eq. 9, with (-1.1, 2.0).
    """

    grid: NodeGrid
    mean: float = eqx.field(static=True, default=0.0)
    std: float = eqx.field(static=True, default=0.0)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        level = jr.uniform(key, (n,))
        if self.std:
            ends = jnp.log(self.grid.sigma(jnp.array([0.0, 1.0])))
            low, high = ndtr((ends - self.mean) / self.std)
            sigma = jnp.exp(self.mean + self.std * ndtri(low + level * (high - low)))
            level = self.grid.fraction(sigma / (1 + sigma))
        count = self.grid.intervals(progress)
        index = jnp.clip(jnp.floor(level * count), 0, count - 1)
        s = self.grid.node((index + 1) / count)
        return s, jnp.zeros_like(s)


class TargetThenSource(TimeSampler):
    """`t` from one distribution on `[low, high]`, then `s` from the other, scaled to `[t, high]`.

    Source: GCM, section 3.4 and eqs. 15 and 17.
    """

    target: TimeDistribution
    source: TimeDistribution
    low: float = 0.0
    high: float = 1.0

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_target, key_source = jr.split(key)
        t = self.low + (self.high - self.low) * self.target.sample(key_target, n)
        return t + (self.high - t) * self.source.sample(key_source, n), t


class SourceThenTarget(TimeSampler):
    """`s` from a distribution, then `t` uniform on `[low, s]`. Source: IMM (arXiv 2503.07565)."""

    source: TimeDistribution
    low: float = 0.0

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_source, key_target = jr.split(key)
        s = self.source.sample(key_source, n)
        return s, self.low + (s - self.low) * jr.uniform(key_target, (n,))


class Shared(TimeSampler):
    """Each pair of `times` serves a whole group of `size` neighbouring rows."""

    times: TimeSampler
    size: int = eqx.field(static=True, default=4)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        s, t = self.times(key, -(-n // self.size), progress)
        return jnp.repeat(s, self.size)[:n], jnp.repeat(t, self.size)[:n]


CLIMB = 0.6
"""Fraction of a staged training over which the stages begin; the last one has the rest too."""


def stage_of(progress: Array, stages: int) -> Int[Array, "*n"]:
    """The stage, 0 to `stages - 1`. All stages but the last are equally long."""
    done = jnp.floor(jnp.asarray(progress) / CLIMB * stages + 1e-4)
    return jnp.clip(done, 0, stages - 1).astype(jnp.int32)


def stage_length(steps: int, stages: int) -> int:
    """Steps of each stage but the last."""
    return max(round(CLIMB * steps / stages), 1)


class Growing(TimeSampler):
    """The pairs of `times` with shorter gaps at first: `t = s + c (t' - s)`, where `c` rises evenly
    from 0 to 1 over the fraction `until` of the training.

    Short jumps are close to the velocity, which is learned first; longer ones then stand on them.
    """

    times: TimeSampler
    until: float = eqx.field(static=True)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        s, t = self.times(key, n, progress)
        c = jnp.minimum(progress / self.until, 1.0)
        return s, jnp.where(c < 1, s + c * (t - s), t)


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
