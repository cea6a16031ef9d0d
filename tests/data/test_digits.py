"""The digits of scikit-learn."""

import numpy as np
import pytest

from core.data import DigitsData
from core.errors import UserError


def test_they_are_those_that_scikit_learn_loads():
    from sklearn.datasets import load_digits

    dataset = DigitsData().load()
    pixels, classes = load_digits(return_X_y=True)
    np.testing.assert_array_equal(dataset.examples.reshape(-1, 64), pixels)
    np.testing.assert_array_equal(dataset.labels, classes)


def test_there_are_1797_digits_of_10_classes():
    dataset = DigitsData().load()
    assert dataset.examples.shape == (1797, 8, 8, 1) and dataset.examples.dtype == np.uint8
    assert dataset.labels is not None and dataset.labels.dtype == np.int32
    counts = np.bincount(dataset.labels)
    assert len(counts) == dataset.num_classes == len(dataset.class_names) == 10
    assert counts.min() == 174 and counts.max() == 183


def test_values_are_decoded_from_0_to_16_onto_minus_one_to_one():
    dataset = DigitsData().load()
    assert (dataset.examples.min(), dataset.examples.max()) == (0, 16)
    x = np.asarray(dataset.decode(dataset.examples))
    assert (x.min(), x.max()) == (-1, 1)
    assert np.array_equal(x, dataset.examples / np.float32(8) - 1)


def test_a_zero_is_dark_in_the_middle_and_a_one_is_bright():
    dataset = DigitsData().load()
    assert dataset.labels is not None
    middle = dataset.examples[:, 3:5, 3:5, 0].mean(axis=(1, 2))
    assert middle[dataset.labels == 0].mean() < 4 < 12 < middle[dataset.labels == 1].mean()


def test_some_classes_are_their_rows_with_labels_in_the_order_of_their_names():
    whole, some = DigitsData().load(), DigitsData(classes=("8", "3")).load()
    assert whole.labels is not None and some.labels is not None
    for label, name in enumerate((8, 3)):
        np.testing.assert_array_equal(
            some.examples[some.labels == label], whole.examples[whole.labels == name]
        )
    assert some.class_names == ("8", "3") and some.num_classes == 2 and len(some) == 357
    alone = DigitsData(classes=("3",)).load()
    assert alone.labels is None and alone.num_classes == 0 and len(alone) == 183


@pytest.mark.parametrize(
    "classes, message", [(("33",), "unknown class of digits '33'"), (("3", "3"), "a class twice")]
)
def test_a_class_that_is_none_or_twice_is_refused(classes, message):
    with pytest.raises(UserError, match=message):
        DigitsData(classes=classes).load()
