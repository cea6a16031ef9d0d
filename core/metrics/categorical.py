"""The likelihood of tokens under a denoiser: an exact identity, a bound for any other.

On the linear path, for one-hot strings `e` and `psi = E[e | x_t]`,

    E[-log p(e)] = int_0^1 (1 - t) / t^3 E|e - psi(x_t, t)|^2 dt      nats,

and any other denoiser makes the right side larger by its mean squared distance from that one: an
upper bound on the cross-entropy of a model, by its diagonal alone. Below `t = 0.05` the largest
entry of `x_t` is the symbol but for a chance of 1e-40, so there the denoiser is that. Source: Guo,
Shamai and Verdu (arXiv cs/0412108), theorem 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Key

from core.flow.condition import Condition
from core.flow.field import VelocityField

EARLIEST, BINS, EVEN = 0.05, 48, 0.1
"""The first time, intervals of its logarithm, and the share of draws that are even in them."""


@dataclass(frozen=True)
class LikelihoodBound:
    """The bound in nats a string, and its standard error over strings and times."""

    nats: float
    error: float

    def bits(self, length: int) -> float:
        """Bits a symbol of strings of this length."""
        return self.nats / (length * np.log(2))


def likelihood_bound(
    field: VelocityField,
    codes: Integer[np.ndarray, "n length"],
    symbols: int,
    *,
    label: Integer[np.ndarray, " n"] | None = None,
    rounds: int = 4,
    batch: int = 256,
    key: Key[Array, ""],
) -> LikelihoodBound:
    """The bound by one noisy state of each string a round, `n (rounds + 1)` evaluations.

    **Arguments:** `field` on the linear path, whose denoiser is `x - t v(x, t)`: a map of tokens,
    or any velocity of one-hot rows; `codes` of strings; `symbols`, their number; `label` of each,
    where the field takes one; `rounds` that count, after one that finds the times that matter: a
    round draws them by what those before have seen; `batch`, strings in one call.
    """
    shares = np.full(BINS, 1 / BINS)
    values, squares, counts = [], np.zeros(BINS), np.zeros(BINS)
    draw = np.random.default_rng(np.asarray(jr.key_data(key)))
    evaluate = partial(_errors, field, symbols)
    for turn in range(rounds + 1):
        place = np.searchsorted(np.cumsum(shares)[:-1], draw.permutation(_strata(len(codes), draw)))
        edge = np.log(1 / EARLIEST) / BINS
        t = EARLIEST * np.exp(edge * (place + draw.random(len(codes))))
        found = _in_batches(evaluate, codes, label, t, jr.fold_in(key, turn), batch)
        # d t = t d log t, and the density in log t is that of the share of its interval.
        integrand = (1 - t) / t**2 * found / field.path.noise_std**2  # pyright: ignore
        weighed = integrand * edge / shares[place]
        np.add.at(squares, place, integrand**2)
        np.add.at(counts, place, 1)
        if turn:
            values.append(weighed)
        spread = np.sqrt(squares / np.maximum(counts, 1))
        shares = EVEN / BINS + (1 - EVEN) * spread / max(spread.sum(), 1e-300)
        shares /= shares.sum()
    each = np.mean(values, axis=0)
    return LikelihoodBound(float(each.mean()), float(each.std(ddof=1) / len(each) ** 0.5))


def _strata(n: int, draw: np.random.Generator) -> Float[np.ndarray, " n"]:
    """One uniform number in each of `n` equal intervals of [0, 1]."""
    return (np.arange(n) + draw.random(n)) / n


def _in_batches(
    evaluate: Callable,
    codes: Integer[np.ndarray, "n length"],
    label: Integer[np.ndarray, " n"] | None,
    t: Float[np.ndarray, " n"],
    key: Key[Array, ""],
    batch: int,
) -> Float[np.ndarray, " n"]:
    """The squared errors, in batches of one size, the last one filled up."""
    n, keys, found = len(codes), jr.split(key, -(-len(codes) // batch)), []
    for start, one in zip(range(0, n, batch), keys):
        rows = np.minimum(np.arange(start, start + batch), n - 1)
        chosen = None if label is None else jnp.asarray(label[rows])
        given = jnp.asarray(codes[rows], jnp.int32), chosen, jnp.asarray(t[rows], jnp.float32)
        found.append(np.asarray(evaluate(*given, one)))
    return np.concatenate(found)[:n].astype(np.float64)


@eqx.filter_jit
def _errors(
    field: VelocityField,
    symbols: int,
    codes: Int[Array, "n length"],
    label: Int[Array, " n"] | None,
    t: Float[Array, " n"],
    key: Key[Array, ""],
) -> Float[Array, " n"]:
    """`|e - (x_t - t v(x_t, t))|^2` of each string, with fresh noise."""

    def one(code: Array, label: Array | None, t: Array, key: Array) -> Array:
        e = jax.nn.one_hot(code, symbols, dtype=t.dtype)
        x = field.path.interpolate(e, field.path.noise(key, e.shape).astype(t.dtype), t)
        cond = None if label is None else Condition(label)
        return jnp.sum((e - (x - t * field.velocity(x, t, cond))) ** 2)

    return jax.vmap(one)(codes, label, t, jr.split(key, len(t)))
