"""The digits of scikit-learn."""

import numpy as np

from core.data import DigitsData


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
