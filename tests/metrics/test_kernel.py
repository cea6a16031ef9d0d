"""Kernel and energy distances: unbiased, symmetric, and right in closed form."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from core.metrics import energy_distance, kid, polynomial_mmd


def _mean_in_standard_errors(values):
    return np.mean(values) / (np.std(values, ddof=1) / np.sqrt(len(values)))


@pytest.mark.parametrize("distance", [polynomial_mmd, energy_distance])
def test_halves_of_one_set_are_at_mean_distance_zero(distance):
    x = load_digits().data / 8 - 1
    rng = np.random.default_rng(0)
    values = []
    for _ in range(40):
        half = rng.permutation(len(x))[:240]
        values.append(distance(x[half[:120]], x[half[120:]]))
    assert abs(_mean_in_standard_errors(values)) < 3
    assert min(values) < 0 < max(values)


def test_polynomial_mmd_agrees_with_a_loop_over_pairs():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(7, 3)) + 1

    def mean(a, b, skip):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (skip and i == j)]
        return sum((np.dot(a[i], b[j]) / 3 + 1) ** 3 for i, j in pairs) / len(pairs)

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    assert polynomial_mmd(x, y) == pytest.approx(expected, rel=1e-12)


def test_polynomial_mmd_of_two_point_masses_is_closed_form():
    """`k(a, a) + k(b, b) - 2 k(a, b)` with `a = 0`, `b = (1, 1)` in 2-D: `1 + 8 - 2`."""
    assert polynomial_mmd(np.zeros((4, 2)), np.ones((6, 2))) == pytest.approx(7)


def test_polynomial_mmd_of_gaussians_on_the_line_is_unbiased_and_closed_form():
    """`E (x y + 1)^3` by the moments `m`, `m^2 + s^2`, `m^3 + 3 m s^2` of both."""
    rng = np.random.default_rng(7)
    one, other = (0.3, 0.8), (-0.2, 1.1)

    def expected(a, b):
        moments = np.array([(m, m**2 + s**2, m**3 + 3 * m * s**2) for m, s in (a, b)])
        return 1 + [3, 3, 1] @ moments.prod(axis=0)

    exact = expected(one, one) + expected(other, other) - 2 * expected(one, other)
    draws = [
        polynomial_mmd(*(m + s * rng.normal(size=(n, 1)) for (m, s), n in ((one, 30), (other, 50))))
        for _ in range(800)
    ]
    assert abs(_mean_in_standard_errors(np.array(draws) - exact)) < 3.5
    same = [kid(*rng.normal(size=(2, 60, 4)), subsets=3, subset_size=30) for _ in range(150)]
    assert abs(_mean_in_standard_errors([one.mean for one in same])) < 3.5
    assert {one.size for one in same} == {30}


def test_energy_distance_of_gaussians_on_the_line_is_closed_form():
    """`E|N(m, v)|` is a folded normal, for `v = 2` between two standard normals."""
    rng = np.random.default_rng(2)
    m, n, repeats = 1.0, 200, 100
    values = [
        energy_distance(rng.normal(size=(n, 1)), m + rng.normal(size=(n, 1)))
        for _ in range(repeats)
    ]
    erf_half = 0.5204998778130465  # erf(m / 2)
    between = 2 / np.sqrt(np.pi) * np.exp(-(m**2) / 4) + m * erf_half
    expected = 2 * between - 2 * (2 / np.sqrt(np.pi))
    assert abs(_mean_in_standard_errors(np.array(values) - expected)) < 3
    assert np.mean(values) == pytest.approx(expected, rel=0.05)


def test_kid_is_the_mean_over_subsets_and_sees_a_shift():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(300, 8)), rng.normal(size=(300, 8))
    same, moved = kid(x, y, subsets=20, subset_size=100), kid(x, y + 1, subsets=20, subset_size=100)
    assert abs(same.mean) < 3 * same.std
    assert moved.mean == pytest.approx(polynomial_mmd(x, y + 1), rel=0.05)
    assert moved.mean > 5 * moved.std > 0


def test_kid_repeats_itself_for_a_seed():
    x, y = np.random.default_rng(4).normal(size=(2, 60, 3))
    first = kid(x, y, subsets=5, subset_size=20, seed=1)
    assert kid(x, y, subsets=5, subset_size=20, seed=1) == first
    assert kid(x, y, subsets=5, subset_size=20, seed=2) != first


@pytest.mark.parametrize("distance", [polynomial_mmd, energy_distance, kid])
def test_one_sample_is_refused(distance):
    with pytest.raises(ValueError, match="at least 2 rows"):
        distance(np.zeros((1, 3)), np.zeros((5, 3)))
