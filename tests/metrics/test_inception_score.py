"""The inception score where it is known."""

import numpy as np
import pytest

from core.metrics import inception_score


def test_sure_and_spread_evenly_is_the_number_of_classes():
    sure = 100 * np.eye(5)[np.arange(50) % 5]
    assert inception_score(sure).mean == pytest.approx(5, rel=1e-12)


def test_all_alike_is_one(rng):
    assert inception_score(np.tile(rng.normal(size=7), (20, 1))).mean == pytest.approx(1)


def test_two_classes_judged_with_doubt_are_twice_the_exponential_of_minus_the_entropy():
    p = 0.9
    logits = np.log(np.array([[p, 1 - p], [1 - p, p]] * 30))
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert inception_score(logits).mean == pytest.approx(2 * np.exp(-entropy), rel=1e-12)


def test_parts_are_taken_in_order_and_stated():
    """Sorted by class each part is one class, of score 1, though all together have 4."""
    logits = 100 * np.eye(4)[np.repeat(np.arange(4), 25)]
    assert inception_score(logits, split_size=25) == pytest.approx((1, 0, 4))
    assert inception_score(logits)[::2] == pytest.approx((4, 1))


def test_a_constant_added_to_a_row_changes_nothing(rng):
    logits = rng.normal(size=(40, 3))
    moved = logits + rng.normal(size=(40, 1)) * 1e3
    assert inception_score(moved).mean == pytest.approx(inception_score(logits).mean)
