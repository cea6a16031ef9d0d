"""Measures of text against counts by hand, and against a chain whose answers are known."""

import itertools

import numpy as np
import pytest

from core.data.bigram import BigramData
from core.data.chain import drawn_chain
from core.data.text import tokens
from core.data.vocabulary import END, Symbols
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
from core.report.texts import yardstick_of


def codes(*rows):
    return np.array([["_abc".index(letter) for letter in row] for row in rows])


def test_entropy_pairs_and_different_texts_are_those_counted_by_hand():
    rows = codes("aab_", "ab__", "ab__")
    share = np.array([5, 4, 3]) / 12
    assert unigram_entropy(rows, 4) == pytest.approx(-share @ np.log2(share))
    pairs = pair_shares(rows, 4)
    assert pairs.at(np.array([5, 6, 8, 15])).tolist() == [1 / 9, 3 / 9, 3 / 9, 0]
    assert distinct_rate(rows) == 2 / 3
    uniform = Pairs.of_table(
        np.eye(4) / 4
    )  # |2/9 - 1/4| + |1/9 - 1/4| + 1/4 + 1/4 and two of 1/3, halved
    assert total_variation(pairs, uniform) == pytest.approx(2 / 3)


def test_pairs_of_many_symbols_take_little_room():
    """A table of all pairs of these would have 8 terabytes."""
    many = 2**20
    near, far = (pair_shares(np.array([[0, 1], [last, 0]]), many) for last in (3, many - 1))
    assert total_variation(near, near) == 0 and total_variation(near, far) == 0.5


def test_a_text_is_valid_if_nothing_follows_its_end():
    rows = codes("abc_", "a_b_", "____", "abcc", "a___")
    assert valid_shares(rows, 0).tolist() == [True, False, False, True, True]
    assert up_to_end(rows, 0).sum(axis=1).tolist() == [4, 2, 1, 4, 2]


def test_a_model_of_a_chains_text_has_its_likelihood():
    chain = drawn_chain(5, seed=0)
    text = chain.draw(4000, 12, seed=1)
    model = NGrams.of(text, 5, order=2)
    other = chain.draw(500, 12, seed=2)
    np.testing.assert_allclose(model.bits(other).mean(), chain.nll(other).mean(), rtol=0.02)
    every = np.array(list(itertools.product(range(5), repeat=3)))
    np.testing.assert_allclose(2 ** -model.bits(every).sum(axis=1) @ np.ones(125), 1, rtol=1e-12)
    assert NGrams.of(text, 2**20, order=3).order == 2  # keys of 62 bits


def test_texts_of_the_chain_itself_are_at_its_entropy():
    data = BigramData(n=2000, symbols=5).load()
    stick, chain = yardstick_of(data), data.chain
    assert chain is not None and stick.judge == "the true chain"
    row = stick.row(chain.draw(4000, 16, seed=9))
    wanted = (chain.unigram + 15 * chain.rate) / 16
    np.testing.assert_allclose(row["nll"], wanted, rtol=0.01)
    np.testing.assert_allclose(row["unigram"], chain.unigram, rtol=0.01)
    assert row["bigram_tv"] < 0.02 and "valid" not in row
    mixed = stick.row(np.random.default_rng(0).integers(0, 5, (4000, 16)))
    assert mixed["nll"] > row["nll"] + 0.5 and mixed["bigram_tv"] > 0.2


def test_novel_and_unique_are_shares_of_the_valid():
    names = ("\n", "a", "b", "c")
    data = tokens("text", Symbols(codes("ab__", "cab_"), names), END)
    row = yardstick_of(data).row(codes("ab__", "abc_", "abc_", "a_a_"))
    assert (row["valid"], row["novel"], row["unique"]) == (3 / 4, 2 / 3, 2 / 3)
