"""Classes by name, and labels of samples in the shares of the data."""

import numpy as np
import pytest

from core.data.labels import class_number, labels_in_shares
from core.data.spec import DataSpec
from core.errors import UserError

RNG = np.random.default_rng(0)


def spec(classes, counts=(), names=None):
    names = tuple(map(str, range(classes))) if names is None else names
    return DataSpec("arrays", "image", (8, 8, 1), classes, names, class_counts=tuple(counts))


MANY = spec(1000, RNG.integers(1, 900, 1000).tolist())
CATS = spec(3, names=("cat", "dog", "7"))


@pytest.mark.parametrize("n", [1, 7, 999, 20_000])
@pytest.mark.parametrize("data", [MANY, spec(3, (6, 0, 3)), spec(100), spec(10)])
def test_every_class_has_its_share(data, n):
    """As many as its share of `n`, to one more or less, and none of an empty class."""
    shares = np.array(data.class_counts or [1] * data.num_classes, float)
    labels = labels_in_shares(data, n)
    assert len(labels) == n
    found = np.bincount(labels, minlength=data.num_classes)
    assert np.abs(found - n * shares / shares.sum()).max() < 1.5
    assert np.all(found[shares == 0] == 0)


@pytest.mark.parametrize("data", [MANY, spec(3, (6, 0, 3)), spec(100)])
def test_the_first_labels_are_those_of_any_number(data):
    assert np.array_equal(labels_in_shares(data, 500)[:123], labels_in_shares(data, 123))


def test_equal_shares_take_turns():
    assert labels_in_shares(spec(4), 10).tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


@pytest.mark.parametrize("asked, number", [("cat", 0), ("dog", 1), ("0", 0), (1, 1), ("7", 2)])
def test_a_class_by_name_or_number_and_a_name_comes_first(asked, number):
    assert class_number(CATS, asked) == number


@pytest.mark.parametrize(
    "data, asked, message",
    [
        (
            CATS,
            "dgo",
            r"classes 0 to 2 by the names cat, dog, 7; did you mean 'dog'\?",
        ),
        (CATS, "3", "--label 3: this run has classes 0 to 2 by the names"),
        (CATS, -1, "--label -1: this run has classes 0 to 2"),
        (spec(10), "ten", "--label ten: this run has classes 0 to 9$"),
        (spec(0), "0", "--label 0: this run has no classes"),
    ],
)
def test_a_class_that_there_is_not(data, asked, message):
    with pytest.raises(UserError, match=message):
        class_number(data, asked)
