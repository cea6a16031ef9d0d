"""Text of a Markov chain, whose entropy, likelihood and denoiser are known exactly."""

import functools
import math
import string
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from core.data.checks import at_least, existing_file
from core.data.dataset import Dataset
from core.data.text import SPLITS, Split, part_of, symbols_of, tokens
from core.data.vocabulary import Symbols, read_text
from core.errors import require

LETTERS = f"{string.ascii_lowercase} {string.digits}{string.ascii_uppercase}"
"""The symbols of a chain that was drawn, so many of the first as it has."""
_HELD_OUT = 20
"""A held-out part has one in so many as many examples as training."""


@dataclass(frozen=True)
class Chain:
    """A stationary Markov chain: `P(e) = initial[e_1] prod_l transition[e_{l-1}, e_l]`."""

    initial: Float[np.ndarray, " symbols"]
    transition: Float[np.ndarray, "symbols symbols"]

    @property
    def rate(self) -> float:
        """The entropy rate in bits a symbol, `-sum_jk initial_j T_jk log2 T_jk`."""
        return float(-(self.initial[:, None] * self.transition * np.log2(self.transition)).sum())

    @property
    def unigram(self) -> float:
        """The entropy of one symbol in bits."""
        return float(-(self.initial * np.log2(self.initial)).sum())

    def nll(self, codes: Int[np.ndarray, "n length"]) -> Float[np.ndarray, " n"]:
        """`-log2 P(e) / L` of each row, in bits a symbol."""
        bits = -np.log2(self.initial[codes[:, 0]])
        bits -= np.log2(self.transition[codes[:, :-1], codes[:, 1:]]).sum(axis=1)
        return bits / codes.shape[1]

    def draw(self, n: int, length: int, seed: int) -> Int[np.ndarray, "n length"]:
        """`n` independent rows."""
        rng = np.random.default_rng(seed)
        upto = np.cumsum(self.transition, axis=1)
        rows = np.empty((n, length), np.int32)
        rows[:, 0] = np.searchsorted(np.cumsum(self.initial), rng.random(n), side="right")
        rows[:, 0] = np.minimum(rows[:, 0], len(upto) - 1)  # rounding of the last sum
        for place in range(1, length):
            u = rng.random(n)[:, None]
            found = (upto[rows[:, place - 1]] < u).sum(axis=1)
            rows[:, place] = np.minimum(found, len(upto) - 1)
        return rows


def stationary(transition: Float[np.ndarray, "k k"]) -> Float[np.ndarray, " k"]:
    """The distribution that the transitions leave as it is; unique where all are positive."""
    size = len(transition)
    equations = np.vstack([transition.T - np.eye(size), np.ones(size)])
    right = np.append(np.zeros(size), 1.0)
    found = np.linalg.lstsq(equations, right, rcond=None)[0]
    return np.maximum(found, 1e-300) / np.maximum(found, 1e-300).sum()


def drawn_chain(symbols: int, seed: int) -> Chain:
    """A chain with rows from a Dirichlet distribution of parameter 0.3, bounded away from 0."""
    rows = np.random.default_rng((seed, 1)).dirichlet(np.full(symbols, 0.3), symbols)
    transition = 0.98 * rows + 0.02 / symbols
    return Chain(stationary(transition), transition)


def chain_of(codes: Int[np.ndarray, " n"], symbols: int) -> Chain:
    """The chain of a text: its counts of pairs, each one more than it was (Laplace)."""
    pairs = np.bincount(codes[:-1].astype(np.int64) * symbols + codes[1:], minlength=symbols**2)
    counts = pairs.reshape(symbols, symbols) + 1.0
    transition = counts / counts.sum(axis=1, keepdims=True)
    return Chain(stationary(transition), transition)


@dataclass(frozen=True)
class BigramData:
    """Text of a Markov chain (bigrams): drawn with a fixed seed, or that of a text file.

    What it should give is known: the entropy a symbol, the likelihood of samples, the denoiser.
    Held-out parts are other draws.
    """

    path: str = ""
    """Text file, .txt or .txt.gz: the pairs of characters in its first 90 % give the chain; without
    one it is drawn."""
    symbols: int = 8
    """Symbols of a chain that is drawn."""
    length: int = 16
    """Symbols of an example."""
    n: int = 65_536
    """Examples of training, drawn once."""
    seed: int = 0
    """Seed of the chain, where it is drawn, and of the examples."""
    split: Split = "train"
    """train, or one of the held-out parts valid and test, a 20th as many."""

    def load(self) -> Dataset:
        """Draws the examples, once in a process. Raises `UserError` for numbers that are too small,
        and for a file that does not open."""
        return _loaded(self)

    def chain(self) -> Chain:
        """The chain itself. Raises `UserError` as `load`."""
        return _chain(self.path, self.symbols, self.seed)[0]


@functools.lru_cache(maxsize=4)
def _chain(path: str, symbols: int, seed: int) -> tuple[Chain, tuple[str, ...]]:
    if not path:
        at_least(symbols, 2, "--data.symbols")
        most = len(LETTERS)
        require(symbols <= most, f"--data.symbols {symbols}: {most} at most")
        return drawn_chain(symbols, at_least(seed, 0, "--data.seed")), tuple(LETTERS[:symbols])
    file = existing_file(path, "a text (.txt, .txt.gz)", "--data.path")
    found = symbols_of(read_text(file), "characters")
    return chain_of(part_of(found.codes, "train"), len(found.names)), found.names


@functools.lru_cache(maxsize=4)
def _loaded(flags: BigramData) -> Dataset:
    at_least(flags.length, 1, "--data.length")
    at_least(flags.n, 1, "--data.n")
    at_least(flags.seed, 0, "--data.seed")
    require(flags.split in SPLITS, f"--data.split {flags.split}: train, valid or test")
    chain, names = _chain(flags.path, flags.symbols, flags.seed)
    held = flags.split != "train"
    count = max(math.ceil(flags.n / _HELD_OUT), 1) if held else flags.n
    seed = 3 * flags.seed + SPLITS.index(flags.split)
    codes = chain.draw(count, flags.length, seed)
    notes = (f"chain of {len(names)} symbols: {chain.rate:.4f} bits each, alone {chain.unigram:.4f}",)
    return tokens("bigram", codes, Symbols(codes, names), notes=notes)
