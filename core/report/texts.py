"""How good samples of text are: rows of a table, beside those of text that was held out."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from core.data.dataset import Dataset
from core.flow.field import VelocityField
from core.metrics.text import (
    NGrams,
    Pairs,
    distinct_rate,
    pair_shares,
    total_variation,
    unigram_entropy,
    up_to_end,
    valid_shares,
)
from core.report.drawn import drawn
from core.sampling import Drawing, check_sampler

Row = dict[str, Any]
COLUMNS = ("nll", "unigram", "bigram_tv", "distinct", "valid", "novel", "unique")
"""The columns of a row: see `TextYardstick.row`."""
ORDER = 3
"""Symbols of the context of the model that judges, where the true distribution is not known."""


@dataclass(frozen=True, eq=False)
class TextYardstick:
    """By what texts are measured.

    **Fields:** `judge`, the true chain or a model of the training text, gives bits of each symbol;
    `pairs`, the shares of neighbours that they should have; `known`, the training texts, where each
    example is a text of its own.
    """

    symbols: int
    end: int | None
    judge: str
    bits: Callable[[Integer[np.ndarray, "n length"]], Float[np.ndarray, "n length"]]
    pairs: Pairs
    known: frozenset[bytes]

    def row(self, codes: Integer[np.ndarray, "n length"]) -> Row:
        """The figures of texts.

        `nll` bits a symbol under the judge, `unigram` the entropy of a symbol at a random place,
        `bigram_tv` the total variation of the pairs of neighbours, `distinct` the share of
        different texts. Where texts end: `valid` the share in which nothing follows the end,
        `novel` the share of the valid ones that training has not, `unique` the share of different
        ones among the valid.
        """
        inside = up_to_end(codes, self.end)
        found: Row = {
            "nll": float((self.bits(codes) * inside).sum() / inside.sum()),
            "unigram": unigram_entropy(codes, self.symbols),
            "bigram_tv": total_variation(pair_shares(codes, self.symbols), self.pairs),
            "distinct": distinct_rate(codes),
        }
        if self.end is None:
            return found
        valid = codes[valid_shares(codes, self.end)]
        found["valid"] = len(valid) / len(codes)
        if len(valid):
            found["novel"] = float(np.mean([_bytes(row) not in self.known for row in valid]))
            found["unique"] = distinct_rate(valid)
        return found

    def held_out(self, dataset: Dataset, n: int) -> Row:
        """The figures of `n` texts that were held out, evenly spaced; of training where none
        were."""
        codes = (dataset.held or dataset).examples
        return {"features": "text", **self.row(codes[evenly(len(codes), n)])}


@functools.lru_cache(maxsize=2)
def yardstick_of(dataset: Dataset) -> TextYardstick:
    """The yardstick of a data set of tokens: its chain where it has one, else what its examples
    say."""
    symbols, codes, chain = dataset.shape[-1], dataset.examples, dataset.chain
    end = dataset.vocabulary.index(dataset.end) if dataset.end else None
    known = frozenset(map(_bytes, codes)) if end is not None else frozenset()
    if chain is not None:
        pairs = Pairs.of_table(chain.pairs)
        return TextYardstick(symbols, end, "the true chain", chain.bits, pairs, known)
    model, pairs = NGrams.of(codes, symbols, ORDER), pair_shares(codes, symbols)
    name = f"a model of order {model.order} of the training text"
    return TextYardstick(symbols, end, name, model.bits, pairs, known)


def evenly(count: int, most: int) -> Integer[np.ndarray, " m"]:
    """At most `most` of `count` indices, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(int)


def _bytes(row: Integer[np.ndarray, " length"]) -> bytes:
    return row.astype(np.int32).tobytes()


def text_rows(
    field: VelocityField,
    dataset: Dataset,
    drawings: Mapping[str, Sequence[Drawing]],
    *,
    n: int,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[Row]:
    """One row for each drawing, all from the same noise. Raises `UserError` for a sampler that the
    map cannot serve, and for samples that are not finite."""
    stick, rows = yardstick_of(dataset), []
    for name, several in drawings.items():
        for drawing in several:
            check_sampler(name, drawing.sampler, field)
            samples = drawn(field, drawing, dataset.shape, n, seed=seed, progress=progress)
            codes = dataset.spec.codes(samples.read(np.arange(samples.n)))
            head = {"sampler": name, "steps": drawing.steps, "nfe": samples.nfe, "features": "text"}
            rows.append({**head, "n": n, **stick.row(codes)})
    return rows
