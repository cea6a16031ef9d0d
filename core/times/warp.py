"""The time in which tokens become readable at an even rate."""

from functools import lru_cache

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, Key

from core.times.distributions import TimeDistribution, Uniform
from core.times.pairs import TimeSampler

NODES, TABLE = 100, 10_001


class Warp(eqx.Module):
    """Time `w` from 0 (data) to 1 (noise) in which a symbol is lost at an even rate: how often the
    largest entry of `x_t` is another one.

        q(t) = E[Phi(n + (1 - t) / t)^(symbols - 1)],      n ~ N(0, 1),
        w(t) = (1 - mix) (1 - q(t)) symbols / (symbols - 1) + mix t

    `q` is the probability that the largest of `symbols` entries is the right one, by 100 nodes of
    Gauss and Hermite. With many symbols nearly all happens for `t` in [0.1, 0.3], so that uniform
    times waste most rows. Linear path, noise of standard deviation 1. Source: Flow Map Language
    Models (arXiv 2602.16813), `mix = 0`; Discrete Flow Maps (arXiv 2604.09784), `mix = 0.1`.
    """

    mix: float = eqx.field(static=True, default=0.1)

    def __call__(self, time: Float[Array, "*n"], symbols: int) -> Float[Array, "*n"]:
        """The warped time of a unit time."""
        return (1 - self.mix) * _unreadable(time, symbols) + self.mix * time

    def time(self, warped: Float[Array, "*n"], symbols: int) -> Float[Array, "*n"]:
        """The unit time of a warped one, from a table of 10,001 nodes: no derivatives."""
        times, values = (jnp.asarray(a, warped.dtype) for a in _table(symbols, self.mix))
        return jnp.interp(warped, values, times)


class Warped(TimeDistribution):
    """`distribution` in the warped time of `symbols` symbols; by default it is uniform there."""

    symbols: int = eqx.field(static=True)
    warp: Warp = Warp()
    distribution: TimeDistribution = Uniform()

    def sample(self, key: Key[Array, ""], n: int) -> Float[Array, " n"]:
        return self.warp.time(self.distribution.sample(key, n), self.symbols)

    def density(self, time: Float[Array, "*n"]) -> Float[Array, "*n"]:
        ones = jnp.ones_like(time)
        w, rate = jax.jvp(lambda t: self.warp(t, self.symbols), (time,), (ones,))
        return self.distribution.density(w) * rate


class WarpedPair(TimeSampler):
    """The pairs of `pair`, drawn in the warped time of `symbols` symbols."""

    pair: TimeSampler
    symbols: int = eqx.field(static=True)
    warp: Warp = Warp()

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        s, t = self.pair(key, n, progress)
        return self.warp.time(s, self.symbols), self.warp.time(t, self.symbols)


def between(
    s: Float[Array, ""],
    t: Float[Array, ""],
    share: Float[Array, ""],
    warp: Warp | None,
    symbols: int,
) -> Float[Array, ""]:
    """The time `share` of the way from `t` to `s`, in the warped time where there is one."""
    if warp is None:
        return share * s + (1 - share) * t
    clocked = share * warp(s, symbols) + (1 - share) * warp(t, symbols)
    return jnp.clip(warp.time(clocked, symbols), t, s)


def _unreadable(time: Float[Array, "*n"], symbols: int) -> Float[Array, "*n"]:
    """`(1 - q(t)) / (1 - q(1))`, without the difference of near numbers."""
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    points, weights = (jnp.asarray(a, time.dtype) for a in (points, weights / weights.sum()))

    def missed(clearance: Float[Array, "*m"]) -> Float[Array, "*m"]:
        levels = clearance[..., None] + points.reshape((1,) * clearance.ndim + (-1,))
        return -jnp.expm1((symbols - 1) * log_ndtr(levels)) @ weights

    safe = jnp.maximum(time, 0.01)  # below it the clearance is that of 99 standard deviations
    return missed((1 - safe) / safe) / missed(jnp.zeros((), time.dtype))


@lru_cache(maxsize=16)
def _table(symbols: int, mix: float) -> tuple[np.ndarray, np.ndarray]:
    """Times and their warped times, strictly increasing."""
    from scipy.special import log_ndtr

    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    times = np.linspace(0.0, 1.0, TABLE)
    safe = np.maximum(times, 0.01)
    missed = -np.expm1((symbols - 1) * log_ndtr(points + ((1 - safe) / safe)[:, None])) @ weights
    values = (1 - mix) * missed / missed[-1] + mix * times
    return times, (values + 1e-10 * times) / (1 + 1e-10)
