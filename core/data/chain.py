"""Markov chains of symbols: text whose entropy and likelihood are known exactly."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer


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

    @property
    def pairs(self) -> Float[np.ndarray, "symbols symbols"]:
        """The share of each pair of neighbours."""
        return self.initial[:, None] * self.transition

    def bits(self, codes: Integer[np.ndarray, "n length"]) -> Float[np.ndarray, "n length"]:
        """`-log2 P(e_l | e_{l-1})` at each place; at the first `-log2 P(e_1)`."""
        share = np.concatenate(
            [self.initial[codes[:, :1]], self.transition[codes[:, :-1], codes[:, 1:]]], axis=1
        )
        return -np.log2(share)

    def nll(self, codes: Integer[np.ndarray, "n length"]) -> Float[np.ndarray, " n"]:
        """`-log2 P(e) / L` of each row, in bits a symbol."""
        return self.bits(codes).mean(axis=1)

    def draw(self, n: int, length: int, seed: int) -> Integer[np.ndarray, "n length"]:
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


def chain_of(codes: Integer[np.ndarray, " n"], symbols: int) -> Chain:
    """The chain of a text: its counts of pairs, each one more than it was (Laplace)."""
    pairs = np.bincount(codes[:-1].astype(np.int64) * symbols + codes[1:], minlength=symbols**2)
    counts = pairs.reshape(symbols, symbols) + 1.0
    transition = counts / counts.sum(axis=1, keepdims=True)
    return Chain(stationary(transition), transition)
