"""Histogram divergence of points in the plane."""

import numpy as np
import pytest

from core.metrics import histogram_kl

_SQUARE = ((0.0, 1.0), (0.0, 1.0))


def test_divergence_of_a_set_to_itself_is_zero():
    x = np.random.default_rng(0).normal(size=(500, 2))
    assert histogram_kl(x, x[::-1]) == pytest.approx(0, abs=1e-14)


def test_half_of_a_square_against_the_whole_is_log_two():
    rng = np.random.default_rng(1)
    half, whole = rng.uniform(size=(200_000, 2)) * [0.5, 1], rng.uniform(size=(200_000, 2))
    assert histogram_kl(half, whole, limits=_SQUARE) == pytest.approx(np.log(2), rel=0.01)


def test_piecewise_constant_densities_give_their_divergence():
    p, q = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.4, 0.3, 0.2, 0.1])
    centres = np.array([[0.25, 0.25], [0.25, 0.75], [0.75, 0.25], [0.75, 0.75]])
    n = 1_000_000
    data = np.repeat(centres, (n * p).round().astype(int), axis=0)
    model = np.repeat(centres, (n * q).round().astype(int), axis=0)
    expected = np.sum(p * np.log(p / q))
    assert histogram_kl(data, model, bins=2, limits=_SQUARE) == pytest.approx(expected, rel=1e-4)


def test_equal_distributions_have_the_bias_that_the_docstring_states():
    rng = np.random.default_rng(2)
    n, bins = 4000, 10
    values = [
        histogram_kl(rng.uniform(size=(n, 2)), rng.uniform(size=(n, 2)), bins=bins, limits=_SQUARE)
        for _ in range(100)
    ]
    assert np.mean(values) == pytest.approx(bins**2 / 2 * (2 / n), rel=0.1)


def test_samples_outside_count_against_the_model():
    x = np.random.default_rng(3).uniform(size=(1000, 2))
    lost = x.copy()
    lost[:500] += 10
    assert histogram_kl(x, lost, bins=4) == pytest.approx(np.log(2), rel=0.1)
    assert np.isfinite(histogram_kl(x, x + 10))


def test_other_dimensions_are_refused():
    with pytest.raises((ValueError, TypeError)):
        histogram_kl(np.zeros((5, 3)), np.zeros((5, 3)))
