"""How near the text of samples is to text: symbols, pairs, likelihood under a model of its own."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

MOST_COUNTED = 2**22
"""Symbols of a text that an n-gram model counts."""
PRIOR = 1.0
"""How many symbols the shorter context counts for, beside those that were seen."""
_LARGEST = 2**62


def unigram_entropy(codes: Integer[np.ndarray, "n length"], symbols: int) -> float:
    """The entropy in bits of a symbol at a random place of a random text."""
    share = np.bincount(codes.reshape(-1), minlength=symbols) / codes.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


def distinct_rate(codes: Integer[np.ndarray, "n length"]) -> float:
    """The number of different texts over that of all."""
    return len(np.unique(codes, axis=0)) / len(codes)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The shares of pairs of neighbours, of those alone that there are: a table of all pairs of
    50,000 symbols has 20 gigabytes. `keys` are `first * symbols + second`, in order."""

    keys: Integer[np.ndarray, " m"]
    shares: Float[np.ndarray, " m"]

    @classmethod
    def of_table(cls, table: Float[np.ndarray, "k k"]) -> "Pairs":
        """Those of a table `table[first, second]`."""
        keys = np.flatnonzero(table)
        return cls(keys, table.reshape(-1)[keys])

    def at(self, keys: Integer[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The shares of these pairs."""
        return _looked_up(keys, self.keys, self.shares)


def pair_shares(codes: Integer[np.ndarray, "n length"], symbols: int) -> Pairs:
    """The share of each pair of neighbours."""
    pairs = codes[:, :-1].astype(np.int64) * symbols + codes[:, 1:]
    keys, counts = np.unique(pairs, return_counts=True)
    return Pairs(keys, counts / max(pairs.size, 1))


def total_variation(p: Pairs, q: Pairs) -> float:
    """`sum |p - q| / 2`."""
    keys = np.union1d(p.keys, q.keys)
    return float(np.abs(p.at(keys) - q.at(keys)).sum() / 2)


def up_to_end(
    codes: Integer[np.ndarray, "n length"], end: int | None
) -> Bool[np.ndarray, "n length"]:
    """The places that are text: all, or those up to and with the first `end`."""
    if end is None:
        return np.ones(codes.shape, bool)
    before = np.cumsum(codes == end, axis=1) - (codes == end)
    return before == 0


def valid_shares(codes: Integer[np.ndarray, "n length"], end: int) -> Bool[np.ndarray, " n"]:
    """Whether a text is not empty, and nothing but `end` stands after the first `end`."""
    inside = up_to_end(codes, end)
    return (inside | (codes == end)).all(axis=1) & (codes[:, 0] != end)


@dataclass(frozen=True, eq=False)
class NGrams:
    """A model of text: each symbol given the `order` before it, by counts.

        P_m(c | context) = (count(context, c) + a P_{m-1}(c | shorter context)) / (count + a)

    with `P_{-1} = 1 / symbols` and `a = PRIOR`; before the first symbol stands a symbol of its own.

    **Fields:** `grams[m]` the keys of `m` symbols and one more that were seen, in order, with
    their counts, and those of the contexts.
    """

    symbols: int
    grams: tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], ...]

    @property
    def order(self) -> int:
        """Symbols of the longest context."""
        return len(self.grams) - 1

    @classmethod
    def of(cls, codes: Integer[np.ndarray, "n length"], symbols: int, order: int = 3) -> "NGrams":
        """The model of a text; `order` is lower where there are so many symbols that keys would not
        fit into 62 bits. Of long texts evenly spaced rows are counted."""
        while order and (symbols + 1) ** (order + 1) > _LARGEST:
            order -= 1
        few = max(min(MOST_COUNTED // codes.shape[1], len(codes)), 1)
        rows = codes[np.linspace(0, len(codes) - 1, few).astype(int)]
        found = []
        for m in range(order + 1):
            contexts, keys = _keys(rows, symbols, m)
            seen, counts = np.unique(keys, return_counts=True)
            before, totals = np.unique(contexts, return_counts=True)
            found.append((seen, counts, before, totals))
        return cls(symbols, tuple(found))

    def bits(self, codes: Integer[np.ndarray, "n length"]) -> Float[np.ndarray, "n length"]:
        """`-log2 P(symbol | those before it)` at each place."""
        share = np.full(codes.shape, 1 / self.symbols)
        for m, (seen, counts, before, totals) in enumerate(self.grams):
            contexts, keys = _keys(codes, self.symbols, m)
            count, total = _looked_up(keys, seen, counts), _looked_up(contexts, before, totals)
            share = (count + PRIOR * share) / (total + PRIOR)
        return -np.log2(share)


def _keys(
    codes: Integer[np.ndarray, "n length"], symbols: int, m: int
) -> tuple[Integer[np.ndarray, "n length"], Integer[np.ndarray, "n length"]]:
    """The `m` symbols before each place as one number, and these with the symbol itself."""
    n, length = codes.shape
    base = symbols + 1
    padded = np.concatenate([np.full((n, m), symbols), codes], axis=1).astype(np.int64)
    context = np.zeros((n, length), np.int64)
    for back in range(m):
        context = context * base + padded[:, back : back + length]
    return context, context * base + codes


def _looked_up(
    keys: Integer[np.ndarray, "*n"],
    known: Integer[np.ndarray, " m"],
    values: Shaped[np.ndarray, " m"],
) -> Shaped[np.ndarray, "*n"]:
    """The values of keys among `known`, which are in order; 0 for others."""
    if not len(known):
        return np.zeros(keys.shape, values.dtype)
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], 0)
