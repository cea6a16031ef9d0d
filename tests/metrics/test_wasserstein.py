"""Wasserstein distances against permutations, translations and quantiles."""

import itertools

import numpy as np
import pytest
import scipy.stats

from core.metrics import exact_w2, sliced_w2, subset_w2


def test_exact_w2_is_the_best_of_all_permutations():
    x, y = np.random.default_rng(0).normal(size=(2, 6, 3))
    best = min(
        np.mean(np.sum((x - y[list(order)]) ** 2, axis=1))
        for order in itertools.permutations(range(6))
    )
    assert exact_w2(x, y) == pytest.approx(np.sqrt(best), rel=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 5, 100])
def test_exact_w2_of_a_translate_is_the_length_of_the_translation(dim):
    rng = np.random.default_rng(1)
    x, c = rng.normal(size=(200, dim)), rng.normal(size=dim)
    shuffled = rng.permutation(x + c)
    assert exact_w2(x, shuffled) == pytest.approx(np.linalg.norm(c), rel=1e-9)
    assert exact_w2(x, rng.permutation(x)) == 0


def test_subset_w2_of_a_translate_of_a_constant_is_exact_at_any_size():
    x = np.zeros((50, 2))
    assert subset_w2(x, x[:30] + [3, 4], size=20, draws=4) == pytest.approx(5)


def test_subset_w2_uses_small_equal_sets_whole():
    x, y = np.random.default_rng(2).normal(size=(2, 40, 2))
    assert subset_w2(x, y, seed=0) == subset_w2(x, y, seed=1) == exact_w2(x, y)


def test_subset_w2_repeats_itself_for_a_seed():
    x, y = np.random.default_rng(3).normal(size=(2, 90, 2))
    assert subset_w2(x, y, size=30, seed=5) == subset_w2(x, y, size=30, seed=5)
    assert subset_w2(x, y, size=30, seed=5) != subset_w2(x, y, size=30, seed=6)


@pytest.mark.parametrize(("dim", "tolerance"), [(1, 1e-12), (2, 1e-12), (3, 0.06), (64, 0.09)])
def test_sliced_w2_squared_of_a_translate_is_its_squared_length_over_dim(dim, tolerance):
    """Exact in 1-D and 2-D; above, within 2 standard errors (`sqrt(2 / 1000)`) of the mean."""
    rng = np.random.default_rng(4)
    x, c = rng.normal(size=(100, dim)), rng.normal(size=dim)
    found = sliced_w2(x, rng.permutation(x + c)) ** 2
    assert found == pytest.approx(c @ c / dim, rel=tolerance)


def test_sliced_w2_of_a_set_with_itself_is_zero():
    x = np.random.default_rng(5).normal(size=(80, 2))
    assert sliced_w2(x, x[::-1]) == pytest.approx(0, abs=1e-12)


def test_sliced_w2_on_the_line_agrees_with_normal_quantiles():
    """`W_2^2 = (m_x - m_y)^2 + (s_x - s_y)^2`; the sets are quantiles, sizes differ."""
    x = scipy.stats.norm.ppf((np.arange(2000) + 0.5) / 2000)[:, None]
    y = 1 + 3 * scipy.stats.norm.ppf((np.arange(1500) + 0.5) / 1500)[:, None]
    assert sliced_w2(x, y) == pytest.approx(np.sqrt(1 + 4), rel=2e-3)


def test_sliced_w2_of_unequal_sizes_equals_that_of_repeated_points():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(6, 4)), rng.normal(size=(4, 4))
    repeated = sliced_w2(np.repeat(x, 2, axis=0), np.repeat(y, 3, axis=0))
    assert sliced_w2(x, y) == pytest.approx(repeated, rel=1e-12)


def test_sliced_w2_is_at_most_exact_w2():
    x, y = np.random.default_rng(7).normal(size=(2, 100, 4))
    assert 0 < sliced_w2(x, y) < exact_w2(x, y)


def test_unequal_sizes_are_refused_by_exact_w2():
    with pytest.raises(ValueError, match="equal sizes, got 3 and 4: use subset_w2"):
        exact_w2(np.zeros((3, 2)), np.zeros((4, 2)))


def test_empty_sets_are_refused():
    with pytest.raises(ValueError, match="at least 1 row"):
        sliced_w2(np.zeros((0, 2)), np.zeros((4, 2)))
