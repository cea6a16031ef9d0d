"""Density and coverage: loops over the definition, and their expectations for equal sets."""

import numpy as np
import pytest

from core.metrics import density_coverage, precision_recall


def by_loops(samples, reference, k):
    balls, held = np.zeros(len(samples)), np.zeros(len(reference), bool)
    for i, centre in enumerate(reference):
        others = np.delete(reference, i, axis=0)
        radius = np.sort(np.linalg.norm(others - centre, axis=1))[k - 1]
        inside = np.linalg.norm(samples - centre, axis=1) < radius
        balls += inside
        held[i] = inside.any()
    return balls.mean() / k, held.mean()


@pytest.mark.parametrize("dim", [3, 80])
def test_agrees_with_loops_over_the_definition(rng, dim):
    x, y = rng.normal(size=(35, dim)), 0.8 * rng.normal(size=(50, dim)) + 0.2
    found = density_coverage(x, y, neighbours=4, tile=16)
    assert found == pytest.approx(by_loops(x, y, 4), abs=1e-12)
    assert 0 < found.coverage < 1


def test_equal_distributions_have_the_known_expectations(rng):
    """Density 1; coverage `1 - prod (m - j) / (n + m - j)`, whatever the distribution."""
    n, m, k = 60, 90, 5
    values = np.array([density_coverage(*_two(rng, n, m), neighbours=k) for _ in range(300)])
    j = np.arange(1, k + 1)
    expected = [1, 1 - np.prod((m - j) / (n + m - j))]
    errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert np.all(np.abs(values.mean(axis=0) - expected) < 3.5 * errors)


def _two(rng, n, m):
    return rng.exponential(size=(n, 3)), rng.exponential(size=(m, 3))


def test_an_outlier_spoils_precision_and_not_density(rng):
    """Far samples lie in the ball of an outlier of the data, which is one ball in 400."""
    data = np.concatenate([rng.normal(size=(400, 2)), [[30.0, 0.0]]])
    samples = 3 + rng.normal(size=(400, 2)) * [8, 0.1] + [15, 0]
    assert precision_recall(samples, data).precision > 0.8
    assert density_coverage(samples, data).density < 0.4


def test_what_is_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 6 rows"):
        density_coverage(np.zeros((9, 2)), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="at least 1 neighbour"):
        density_coverage(np.zeros((9, 2)), np.zeros((9, 2)), neighbours=0)
