"""From stored values of any range to network values, channel by channel, and back."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

SHOWN = 0.995
"""The share of standardised values that a picture shows between black and white."""
_CHUNK = 2**22
"""Numbers that are looked at at once."""


@dataclass(frozen=True)
class Scale:
    """`network = (stored - centre) / spread`, one number a channel; the values themselves where
    both are empty.

    **Fields:** `span`: pictures show network values from `-span`, black, to `span`, white.
    """

    centre: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    span: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.centre)

    def network(self, stored: Float32[Array, "..."]) -> Float32[Array, "..."]:
        """Stored values as network values; the channels are the last axis. May be traced."""
        if not self:
            return stored
        centre, spread = (_beside(part, stored.ndim) for part in (self.centre, self.spread))
        return (stored - jnp.asarray(centre)) / jnp.asarray(spread)

    def undone(self, network: Float[Array, "..."]) -> Float[Array, "..."]:
        """`stored` of arrays of JAX; may be traced."""
        if not self:
            return network
        centre, spread = (_beside(part, network.ndim) for part in (self.centre, self.spread))
        return (jnp.asarray(centre) + jnp.asarray(spread) * network).astype(network.dtype)

    def stored(self, network: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Network values in the units of the data, in NumPy: `centre + spread network`."""
        if not self:
            return network
        centre, spread = (_beside(part, network.ndim) for part in (self.centre, self.spread))
        return (centre + spread * network).astype(network.dtype)

    def fits(self, channels: int) -> bool:
        """Whether it is one for so many channels, of numbers that can be undone."""
        sizes = {len(self.centre), len(self.spread)}
        numbers = (*self.centre, *self.spread, self.span)
        positive = all(one > 0 for one in (*self.spread, self.span))
        return (
            sizes in ({0}, {channels}) and positive and all(math.isfinite(one) for one in numbers)
        )


def _beside(numbers: Sequence[float], ndim: int) -> Float32[np.ndarray, "..."]:
    return np.asarray(numbers, np.float32).reshape((1,) * (ndim - 1) + (-1,))


def from_range(low: float, high: float, channels: int) -> Scale:
    """`low` becomes -1 and `high` 1."""
    return Scale(((low + high) / 2,) * channels, ((high - low) / 2,) * channels)


def standardising(x: Shaped[np.ndarray, " n *shape"]) -> Scale:
    """Mean 0 and standard deviation 1 in each channel, over all examples and places of `x`.

    A channel that is constant keeps its spread, 1, so that it becomes 0. `span` is what `SHOWN` of
    the values lie in.
    """
    channels = x.shape[-1]
    count = x.size // channels
    mean = sum((part.sum(0) for part in _rows(x)), np.zeros(channels)) / count
    square = sum((np.square(part - mean).sum(0) for part in _rows(x)), np.zeros(channels)) / count
    spread = np.sqrt(square)
    spread = np.where(spread > 1e-9 * np.abs(mean), spread, 1.0)
    few = evenly(len(x), max(_CHUNK // max(x[0].size, 1), 1))
    sizes = np.abs((x[few].reshape(-1, channels).astype(np.float64) - mean) / spread)
    span = max(float(np.quantile(sizes, SHOWN)), 1e-3)
    return Scale(tuple(mean.tolist()), tuple(spread.tolist()), span)


def evenly(count: int, most: int) -> Shaped[np.ndarray, " m"]:
    """At most `most` of `count` indices, evenly spaced, in order."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def _rows(x: Shaped[np.ndarray, " n *shape"]) -> Iterable[Float[np.ndarray, "rows channels"]]:
    """The values with one column a channel, some examples at a time, in float64."""
    each = max(_CHUNK // max(x[0].size, 1), 1)
    for start in range(0, len(x), each):
        yield x[start : start + each].reshape(-1, x.shape[-1]).astype(np.float64)


def extremes(x: Shaped[np.ndarray, " n *shape"]) -> tuple[float, float]:
    """The least and the highest value."""
    return float(x.min()), float(x.max())
