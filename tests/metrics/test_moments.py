"""Streamed statistics: those of the whole, however it is cut."""

import numpy as np
import pytest

from core.metrics.moments import no_moments, streamed


def off_centre(rng, n=4000, dim=6):
    """Rows whose mean is 1e4 times their deviation, where raw second moments lose eight digits."""
    root = rng.normal(size=(dim, dim))
    return rng.normal(size=(n, dim)) @ root + 1e4


def close(found, x):
    assert found.n == len(x)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-14)
    cov = np.cov(x.T)
    assert np.abs(found.cov - cov).max() < 1e-10 * np.abs(cov).max()


def test_streamed_statistics_are_those_in_memory(rng):
    x = off_centre(rng)
    close(streamed(np.array_split(x, 7)), x)
    close(streamed([x]), x)


def test_raw_second_moments_would_not_do(rng):
    """The control: the same sums about 0 are off by more than is asked for above."""
    x = off_centre(rng)
    cov = no_moments(np.zeros(x.shape[1])).more(x).statistics().cov
    assert np.abs(cov - np.cov(x.T)).max() > 1e-10 * np.abs(cov).max()


def test_parts_about_different_shifts_add_up_in_any_order(rng):
    x = off_centre(rng)
    first, second = no_moments(x[0]).more(x[:900]), no_moments(x[0] + 5).more(x[900:])
    close(first.merged(second).statistics(), x)
    close(second.merged(first).statistics(), x)
    moved = first.around(x[0] - 3)
    np.testing.assert_allclose(moved.statistics().cov, first.statistics().cov, rtol=1e-8)


def test_one_row_is_refused():
    with pytest.raises(ValueError, match="at least 2 samples, got 1"):
        streamed([np.zeros((1, 3))])
    with pytest.raises(ValueError, match="got 0"):
        streamed([])
