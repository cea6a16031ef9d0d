"""Named features: flattening, looking up, refusing what is not finite."""

import numpy as np
import pytest

from core.errors import UserError
from core.metrics import FEATURES, FeatureExtractor, evaluate, extract, register_features
from core.metrics.features import Pooled, check_size, default_features


class _Means:
    name = "means"

    def __call__(self, examples):
        return examples.reshape(len(examples), -1).mean(axis=1, keepdims=True)


def test_pixels_flatten_each_example_in_order():
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = extract("pixels", x)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [np.arange(12), np.arange(12, 24)])


def test_a_registered_extractor_is_found_by_its_name():
    with FEATURES.scope():
        assert isinstance(register_features(_Means()), FeatureExtractor)
        np.testing.assert_array_equal(extract("means", np.array([[1.0, 3.0]])), [[2.0]])
    assert "means" not in FEATURES


def test_a_name_cannot_be_taken_twice():
    with pytest.raises(ValueError, match="'pixels' is taken by core.metrics.features"):
        register_features(Pooled(name="pixels"))


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UserError, match="'inception'.*pixels"):
        extract("inception", np.zeros((3, 2)))


def test_samples_that_are_not_finite_are_counted_and_refused():
    x = np.zeros((5, 2, 2))
    x[1, 0, 0], x[3, 1, 1] = np.nan, np.inf
    with pytest.raises(ValueError, match="2 of 5 examples"):
        extract("pixels", x)


def test_pooled_features_keep_means_and_reduce_the_size():
    images = np.random.default_rng(0).normal(size=(3, 20, 12, 2))
    pooled = extract("pooled", images)
    assert pooled.shape == (3, 8 * 8 * 2)
    flat = np.ones((3, 20, 12, 2)) * np.array([2.0, -1.0])
    assert np.allclose(extract("pooled", flat).reshape(3, 8, 8, 2), [2.0, -1.0])
    small = images[:, :8, :8]
    assert np.allclose(extract("pooled", small), extract("pixels", small))


def test_series_are_pooled_along_their_length_alone():
    series = np.random.default_rng(0).normal(size=(3, 640, 2))
    pooled = extract("pooled", series).reshape(3, 64, 2)
    np.testing.assert_allclose(pooled, series.reshape(3, 64, 10, 2).mean(2))
    short = series[:, :50]
    assert np.array_equal(extract("pooled", short), extract("pixels", short))


def test_pixels_of_large_images_are_refused_and_pooled_ones_are_the_default():
    """Before a matrix of the square of their number is asked for."""
    assert default_features((32, 32, 1)) == "pixels" and default_features((64, 64, 1)) == "pooled"
    assert default_features((32, 32, 3), "net") == default_features((64, 64, 1), "net") == "net"
    assert default_features((28, 28, 1), "net") == default_features((4096,), "net") == "pixels"
    assert default_features((64, 64, 7), "net") == default_features((5000,), "net") == "pooled"
    check_size("pixels", (64, 64, 1))
    check_size("pooled", (256, 256, 3))
    with pytest.raises(UserError, match="196,608 numbers takes a matrix of 288.0 GiB; .* pooled"):
        check_size("pixels", (256, 256, 3))
    large = np.zeros((4, 65, 64, 1), np.float32)
    with pytest.raises(UserError, match="4,160 numbers"):
        evaluate(large, None, large, None, kind="image")


def test_pooling_in_chunks_is_pooling_at_once(rng, monkeypatch):
    x = rng.normal(size=(7, 11, 9, 3))
    whole = Pooled(4)(x)
    monkeypatch.setattr("core.metrics.features._CHUNK", 2 * 11 * 9 * 3)
    np.testing.assert_array_equal(Pooled(4)(x), whole)
