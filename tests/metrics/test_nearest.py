"""Class accuracy by nearest neighbour, on the real digits and against scikit-learn."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier

from core.metrics import nearest_accuracy, nearest_labels


@pytest.fixture(scope="module")
def halves():
    digits = load_digits()
    x = (digits.data / 8 - 1).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    first, second = order[:898], order[898:1796]
    return x[first], digits.target[first], x[second], digits.target[second]


def test_half_of_the_digits_classifies_the_other_half(halves):
    assert nearest_accuracy(*halves) == pytest.approx(0.98, abs=0.012)


def test_agrees_with_scikit_learn(halves):
    x, labels, y, y_labels = halves
    expected = KNeighborsClassifier(1, algorithm="brute").fit(y, y_labels).predict(x)
    np.testing.assert_array_equal(nearest_labels(x, y, y_labels), expected)


def test_accuracy_falls_to_chance_for_shuffled_labels(halves):
    x, labels, y, y_labels = halves
    shuffled = np.random.default_rng(1).permutation(labels)
    assert nearest_accuracy(x, shuffled, y, y_labels) == pytest.approx(0.1, abs=0.04)


def test_labels_that_do_not_match_in_number_are_refused():
    x = np.zeros((4, 2))
    with pytest.raises((ValueError, TypeError)):
        nearest_accuracy(x, np.zeros(3, int), x, np.zeros(4, int))
    with pytest.raises((ValueError, TypeError)):
        nearest_accuracy(x, np.zeros(4, int), x, np.zeros(5, int))
