"""Text of a Markov chain, whose entropy, likelihood and denoiser are known exactly."""

import functools
import math
import string
from dataclasses import dataclass, replace

from core.data.chain import Chain, chain_of, drawn_chain
from core.data.checks import at_least, existing_file
from core.data.dataset import Dataset
from core.data.text import part_of, stamp, symbols_of, tokens
from core.data.vocabulary import Symbols, read_text
from core.errors import require

LETTERS = f"{string.ascii_lowercase} {string.digits}{string.ascii_uppercase}"
"""The symbols of a chain that was drawn, so many of the first as it has."""
_HELD_OUT = 20
"""A held-out part has one in so many as many examples as training."""


@dataclass(frozen=True)
class BigramData:
    """Text of a Markov chain (bigrams): drawn with a fixed seed, or that of a text file.

    What it should give is known: the entropy a symbol, the likelihood of samples, the denoiser.
    What is held out are other draws.
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

    def load(self) -> Dataset:
        """Draws the examples, once in a process. Raises `UserError` for numbers that are too small,
        and for a file that does not open."""
        return _loaded(self, stamp(self.path))

    def chain(self) -> Chain:
        """The chain itself. Raises `UserError` as `load`."""
        return _chain(self.path, self.symbols, self.seed, stamp(self.path))[0]


@functools.lru_cache(maxsize=4)
def _chain(
    path: str, symbols: int, seed: int, when: tuple[int, int]
) -> tuple[Chain, tuple[str, ...]]:
    del when
    if not path:
        at_least(symbols, 2, "--data.symbols")
        most = len(LETTERS)
        require(symbols <= most, f"--data.symbols {symbols}: {most} at most")
        return drawn_chain(symbols, at_least(seed, 0, "--data.seed")), tuple(LETTERS[:symbols])
    file = existing_file(path, "a text (.txt, .txt.gz)", "--data.path")
    found = symbols_of(read_text(file), "characters")
    return chain_of(part_of(found.codes, "train"), len(found.names)), found.names


@functools.lru_cache(maxsize=4)
def _loaded(flags: BigramData, when: tuple[int, int]) -> Dataset:
    at_least(flags.length, 1, "--data.length")
    at_least(flags.n, 1, "--data.n")
    at_least(flags.seed, 0, "--data.seed")
    chain, names = _chain(flags.path, flags.symbols, flags.seed, when)
    count = max(math.ceil(flags.n / _HELD_OUT), 1)
    rows, other = (
        Symbols(chain.draw(n, flags.length, 2 * flags.seed + k), names)
        for k, n in enumerate((flags.n, count))
    )
    note = f"chain of {len(names)} symbols: {chain.rate:.4f} bits each, alone {chain.unigram:.4f}"
    found = tokens("bigram", rows, held=other, notes=(note,))
    return replace(found, chain=chain)
