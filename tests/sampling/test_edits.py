"""Examples go to noise and back; what lies between two keeps the length."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.path import LinearPath
from core.flow.rotations import SO3
from core.flow.torus import Torus
from core.oracle import GaussianProblem, OracleMap
from core.sampling import SAMPLERS
from core.sampling.edits import along, between, relative_errors, slerp

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


@pytest.mark.long
def test_on_a_torus_and_of_rotations_the_short_way_counts():
    """0.2 radians across the edge of the torus, and half a radian between quaternions of which one
    has the other sign."""
    a, b = np.array([[np.pi - 0.1, 1.0]]), np.array([[0.1 - np.pi, 1.0]])
    length = np.hypot(np.pi - 0.1, 1)
    np.testing.assert_allclose(relative_errors(a, b, Torus()), 0.2 / length, rtol=1e-5)
    way = between(Torus(), a[0], b[0], np.array([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(np.cos(way[:, 0] - [a[0, 0], np.pi - 0.05, b[0, 0]]), 1, atol=1e-6)
    assert np.allclose(way[:, 1], 1)
    p, q = np.array([1.0, 0, 0, 0]), -np.array([np.cos(0.5), np.sin(0.5), 0, 0])
    middle = between(SO3(), p, q, np.array([0.5]))[0]
    assert np.allclose(middle, [np.cos(0.25), np.sin(0.25), 0, 0], atol=1e-6)


def test_the_way_between_two_keeps_their_length(rng):
    a, b = rng.standard_normal((2, 4, 5))
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    way = slerp(a, b, np.linspace(0, 1, 5))
    assert way.shape == (5, 4, 5) and np.allclose(way[0], a) and np.allclose(way[-1], b)
    assert np.allclose(np.linalg.norm(way.reshape(5, -1), axis=1), np.linalg.norm(a))
    steps = np.linalg.norm(np.diff(way.reshape(5, -1), axis=0), axis=1)
    assert np.allclose(steps, steps[0])
    assert np.allclose(slerp(a, 2 * a, np.array([0.25])), 1.25 * a)
