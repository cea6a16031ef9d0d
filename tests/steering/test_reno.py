"""Optimised noise, on Gaussians whose optimum is known."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.optimize import brentq

from core.steering.fixtures import fixtures
from core.steering.steering import steer
from plugins.steering import ReNO
from plugins.steering.reno import length_penalty

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases():
    with jax.enable_x64(True):
        return fixtures()


def test_with_the_normal_density_the_optimum_is_the_tilted_mean(cases, x64):
    """In one dimension the length's density and the normal one have the same slope."""
    method = ReNO(moves=150, rate=0.3, momentum=0.5, penalty=1.0, clip=10.0)
    x = steer(method, cases["G1"].tilt(), n=8, islands=1, key=jr.key(0)).x
    np.testing.assert_allclose(x, 2.2, atol=1e-6)


def test_the_length_of_the_optimum(cases, x64):
    c, fixture = 0.7, cases["G2"]
    root, a = np.real(sqrtm(fixture.covariance)), np.array([1, -0.7])
    pull = np.linalg.norm(root @ a)
    length = brentq(lambda rho: c * (rho - 1 / rho) - pull, 0.1, 10)
    z = length * root @ a / pull
    method = ReNO(moves=300, rate=0.3, momentum=0.5, penalty=c, clip=10.0)
    x = steer(method, fixture.tilt(), n=8, islands=1, key=jr.key(0)).x
    np.testing.assert_allclose(x, np.tile(np.array([0.5, -0.3]) + root @ z, (8, 1)), atol=1e-5)


def test_the_length_is_kept_typical(x64):
    z = jr.normal(jr.key(0), (5, 4))
    longest = z / jnp.linalg.norm(z) * np.sqrt(19)
    np.testing.assert_allclose(jax.grad(length_penalty)(longest), 0, atol=1e-12)
    assert float(length_penalty(longest)) < float(length_penalty(0.9 * longest))


def test_the_best_iterate_comes_back_and_steps_are_clipped(cases, x64):
    tilt = cases["G1q"].tilt()
    noise = jr.normal(jr.key(1), (64, 1))
    start = 0.4 + np.sqrt(1.5) * np.asarray(noise)

    def losses(x):
        z = (np.asarray(x) - 0.4) / np.sqrt(1.5)
        return np.asarray(jax.vmap(tilt.reward)(jnp.asarray(x))) - 0.01 * z[:, 0] ** 2 / 2

    wild = ReNO(moves=7, rate=30.0, clip=1e9)  # every step overshoots
    x = jax.vmap(lambda z: wild.best(tilt, z))(noise)
    assert np.all(losses(x) >= losses(start) - 1e-12)
    one = ReNO(moves=1)
    x = jax.vmap(lambda z: one.best(tilt, z))(noise)
    moved = np.abs(np.asarray(x) - start) / np.sqrt(1.5)
    assert moved.max() == pytest.approx(0.1 * 5 * 1.9)  # clip, rate, Nesterov's look ahead
    assert not ReNO.exact
