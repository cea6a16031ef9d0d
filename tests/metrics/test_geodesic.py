"""Discrepancies by geodesic distances, and the divergence on cells."""

import numpy as np
import pytest

from core.data import DATA
from core.metrics import cells_kl, geodesic_mmd, geodesic_mmd2
from core.metrics.geodesic import _distances, geodesic_squares
from core.spaces import SPACES

RNG = np.random.default_rng(0)


def _unit(n: int, dim: int) -> np.ndarray:
    x = RNG.normal(size=(n, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _matrix(space: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    inner = np.clip(x @ y.T, -1, 1)
    if space == "torus":
        apart = np.abs(x[:, None] - y[None]) % (2 * np.pi)
        return np.sqrt((np.minimum(apart, 2 * np.pi - apart) ** 2).sum(-1))
    return np.arccos(np.abs(inner) if space == "so3" else inner)


@pytest.mark.parametrize("space, dim", [("sphere", 3), ("torus", 2), ("so3", 4)])
def test_both_statistics_are_those_of_the_matrix_of_distances(space, dim):
    x, y = (_unit(k, dim) * (3 if space == "torus" else 1) for k in (7, 5))
    xx, yy, xy = (np.exp(-(_matrix(space, *p) ** 2)) for p in ((x, x), (y, y), (x, y)))
    v = np.sqrt(xx.mean() + yy.mean() - 2 * xy.mean())
    off = [(k.sum() - len(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
    assert geodesic_mmd(SPACES[space], x, y) == pytest.approx(v, rel=1e-6)
    assert geodesic_mmd2(SPACES[space], x, y) == pytest.approx(sum(off) - 2 * xy.mean(), abs=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("space, dim", [("sphere", 3), ("torus", 2), ("so3", 4)])
def test_closed_forms_are_the_distances_of_the_spaces(space, dim):
    x = _unit(6, dim) * (3 if space == "torus" else 1)
    found = _distances(SPACES[space], x.astype(np.float32), x.astype(np.float32))
    assert np.allclose(geodesic_squares(SPACES[space], x, x), np.square(found), atol=1e-4)


def test_unbiased_statistic_has_mean_zero_where_the_other_has_a_floor():
    data = DATA["sphere-blobs"](n=4000).load().examples
    pairs = data.reshape(10, 2, 200, 3)
    found = np.array([geodesic_mmd2(SPACES["sphere"], *pair) for pair in pairs])
    floor = [geodesic_mmd(SPACES["sphere"], *pair) for pair in pairs]
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(10) and min(floor) > 0.03


def test_divergence_on_cells_of_a_known_density():
    p = np.array([[0.5, 0.0], [0.25, 0.25]])
    x = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [1.0, 2.0]])
    q = (np.array([1, 1, 2]) + 0.5) / 6
    expected = np.sum([0.5, 0.25, 0.25] * np.log([0.5, 0.25, 0.25] / q))
    assert cells_kl(p, x) == pytest.approx(expected)
    assert cells_kl(p, x + 2 * np.pi) == pytest.approx(expected)
    with pytest.raises(ValueError, match="points of 2 angles"):
        cells_kl(p, x[:, :1])
