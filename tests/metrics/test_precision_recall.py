"""Precision and recall: identical sets, lost modes, unrelated sets."""

import numpy as np
import pytest

from core.metrics import precision_recall

_MODES = np.array([[-10.0, 0.0], [10.0, 0.0], [0.0, 10.0], [0.0, -10.0]])


def _modes(rng, n, modes):
    return modes[rng.integers(len(modes), size=n)] + 0.5 * rng.normal(size=(n, 2))


def _by_loops(samples, reference, k):
    def inside(point, centres):
        for i, centre in enumerate(centres):
            others = np.delete(centres, i, axis=0)
            radius = np.sort(np.linalg.norm(others - centre, axis=1))[k - 1]
            if np.linalg.norm(point - centre) <= radius:
                return True
        return False

    return (
        np.mean([inside(x, reference) for x in samples]),
        np.mean([inside(y, samples) for y in reference]),
    )


@pytest.mark.parametrize("dim", [2, 100])
def test_identical_sets_have_precision_and_recall_one(dim):
    x = np.random.default_rng(0).normal(size=(200, dim))
    x[:20] = x[20:40]  # duplicates, whose balls may have radius zero
    x[40:60] = x[20:40]
    x[60:80] = x[20:40]
    assert precision_recall(x, x[::-1]) == (1, 1)


def test_one_mode_of_four_is_precise_but_recalls_a_quarter():
    rng = np.random.default_rng(1)
    data, samples = _modes(rng, 800, _MODES), _modes(rng, 800, _MODES[:1])
    found = precision_recall(samples, data)
    assert found.precision > 0.95
    assert found.recall == pytest.approx(0.25, abs=0.05)


def test_a_subset_of_the_data_from_one_mode_has_precision_exactly_one():
    data = _modes(np.random.default_rng(2), 400, _MODES)
    found = precision_recall(data[data[:, 0] < -5], data)
    assert found.precision == 1 and found.recall < 0.4


def test_unrelated_sets_have_neither():
    x = np.random.default_rng(3).normal(size=(50, 2))
    assert precision_recall(x, x + 100) == (0, 0)


def test_agrees_with_loops_over_the_definition():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(25, 3)), 0.7 * rng.normal(size=(30, 3)) + 0.3
    assert precision_recall(x, y, neighbours=2) == _by_loops(x, y, 2)
    assert 0 < precision_recall(x, y, neighbours=2).precision < 1


def test_too_few_points_for_the_neighbours_are_refused():
    with pytest.raises(ValueError, match="at least 4 rows"):
        precision_recall(np.zeros((3, 2)), np.zeros((9, 2)))
