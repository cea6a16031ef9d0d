"""Tiles bound the memory, never the result; distances are right in both their ways."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from core.metrics import energy_distance, nearest_labels, precision_recall, sliced_w2
from core.metrics._distances import squared_distances


@pytest.fixture(params=[2, 100])
def sets(request):
    rng = np.random.default_rng(0)
    return rng.normal(size=(130, request.param)), rng.normal(size=(90, request.param)) + 0.1


@pytest.mark.parametrize("tile", [1, 7, 64, 1000])
def test_results_do_not_depend_on_the_tile(sets, tile):
    x, y = sets
    labels = np.arange(len(y))
    assert precision_recall(x, y, tile=tile) == precision_recall(x, y)
    assert energy_distance(x, y, tile=tile) == pytest.approx(energy_distance(x, y), abs=1e-10)
    assert sliced_w2(x, y, tile=tile) == pytest.approx(sliced_w2(x, y), rel=1e-10)
    np.testing.assert_array_equal(
        nearest_labels(x, y, labels, tile=tile), nearest_labels(x, y, labels)
    )


def test_squared_distances_agree_with_scipy_and_vanish_for_equal_points(sets):
    x, y = sets
    np.testing.assert_allclose(squared_distances(x, y), cdist(x, y) ** 2, rtol=1e-10)
    assert np.all(np.diag(squared_distances(x, x.copy())) == 0)


def test_a_tile_without_rows_is_refused(sets):
    with pytest.raises(ValueError, match="at least 1 row, got tile=0"):
        energy_distance(*sets, tile=0)
