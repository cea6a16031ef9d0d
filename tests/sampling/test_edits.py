"""Examples go to noise and back; what lies between two keeps the length."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.flow.path import LinearPath
from core.oracle import GaussianProblem, OracleMap
from core.sampling import SAMPLERS
from core.sampling.edits import along, relative_errors, slerp

EXACT = OracleMap(GaussianProblem(jnp.array([0.5, -1.0]), jnp.diag(jnp.array([0.25, 4.0]))),
                  LinearPath())  # fmt: skip


def test_examples_go_to_the_noise_of_the_exact_map_and_back(rng):
    """`z = (x - mean) / std`, of a Gaussian on the linear path."""
    x, times = rng.standard_normal((70, 2)).astype(np.float32), np.linspace(0, 1, 3)
    jump, counted = SAMPLERS["pushforward"], []
    z = along(EXACT, jump, times, x, None, key=jr.key(0), progress=counted.append)
    assert np.abs(z - (x - [0.5, -1.0]) / [0.5, 2.0]).max() < 1e-5
    again = along(EXACT, jump, times[::-1].copy(), z, None, key=jr.key(0))
    assert relative_errors(x, again).max() < 1e-5 and counted == [64, 6]


def test_errors_are_relative_to_each_example():
    x = np.array([[3.0, 4.0], [0.0, 2.0]])
    assert relative_errors(x, x + [[0.0, 1.0], [2.0, 0.0]]).tolist() == [0.2, 1.0]


def test_the_way_between_two_keeps_their_length(rng):
    a, b = rng.standard_normal((2, 4, 5))
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    way = slerp(a, b, np.linspace(0, 1, 5))
    assert way.shape == (5, 4, 5) and np.allclose(way[0], a) and np.allclose(way[-1], b)
    assert np.allclose(np.linalg.norm(way.reshape(5, -1), axis=1), np.linalg.norm(a))
    steps = np.linalg.norm(np.diff(way.reshape(5, -1), axis=0), axis=1)
    assert np.allclose(steps, steps[0])
    assert np.allclose(slerp(a, 2 * a, np.array([0.25])), 1.25 * a)
