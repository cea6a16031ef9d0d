"""Frechet distance against closed forms of Gaussians."""

import numpy as np
import pytest
import scipy.linalg

from core.metrics import Statistics, frechet, frechet_distance, statistics


def _random_covariance(rng, dim):
    root = rng.normal(size=(dim, dim))
    return root @ root.T / dim


def test_distance_of_a_set_to_itself_is_zero():
    x = np.random.default_rng(0).normal(size=(300, 20)) * np.linspace(0, 5, 20)
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)


def test_commuting_covariances_give_the_sum_over_axes():
    a = Statistics(np.array([1.0, 0.0, 2.0]), np.diag([1.0, 4.0, 9.0]), 10)
    b = Statistics(np.array([0.0, 0.0, 0.0]), np.diag([4.0, 4.0, 1.0]), 10)
    assert frechet_distance(a, b) == pytest.approx(5 + (1 - 2) ** 2 + 0 + (3 - 1) ** 2, rel=1e-12)


def test_general_covariances_agree_with_the_matrix_root_of_the_product():
    rng = np.random.default_rng(1)
    s_a, s_b = _random_covariance(rng, 5), _random_covariance(rng, 5)
    a, b = Statistics(rng.normal(size=5), s_a, 9), Statistics(rng.normal(size=5), s_b, 9)
    root = scipy.linalg.sqrtm(s_a @ s_b).real
    expected = np.sum((a.mean - b.mean) ** 2) + np.trace(s_a + s_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-9)


def test_samples_of_gaussians_approach_the_closed_form_as_one_over_n():
    """`E FD_n = FD + c / n`: the excess falls fourfold when `n` grows fourfold."""
    rng = np.random.default_rng(2)
    root_a, root_b = np.array([1.0, 0.5]), np.array([0.7, 0.9])
    shift = np.array([0.2, -0.1])
    exact = np.sum(shift**2) + np.sum((root_a - root_b) ** 2)

    def excess(n, repeats):
        values = [
            frechet(root_a * rng.normal(size=(n, 2)), shift + root_b * rng.normal(size=(n, 2)))
            for _ in range(repeats)
        ]
        return np.mean(values) - exact

    order = np.log(excess(40, 2500) / excess(640, 2500)) / np.log(16)
    assert order == pytest.approx(1, abs=0.15)


def test_statistics_use_the_unbiased_covariance_in_float64():
    x = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32) + 1000
    found = statistics(x)
    assert found.n == 50 and found.cov.dtype == np.float64
    np.testing.assert_allclose(found.cov, np.cov(x.astype(np.float64).T), rtol=1e-10)
    np.testing.assert_allclose(found.mean, x.astype(np.float64).mean(0), rtol=1e-12)


def test_one_sample_is_refused():
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        statistics(np.zeros((1, 3)))


def test_statistics_of_other_features_are_refused():
    a, b = statistics(np.eye(3)), statistics(np.eye(4))
    with pytest.raises(ValueError, match="3 and 4 features"):
        frechet_distance(a, b)
