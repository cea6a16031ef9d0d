"""Hamiltonian chains in the noise."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from blackjax.mcmc.integrators import IntegratorState

from core.steering.fixtures import fixtures
from core.steering.steering import steer
from plugins.steering import HMC
from plugins.steering.hmc import rotations

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases():
    with jax.enable_x64(True):
        return fixtures()


@pytest.mark.parametrize("most", [10.0, 0.3], ids=["free", "capped"])
def test_chains_reach_the_tilted_distribution_whatever_the_cap(most, cases, x64):
    fixture = cases["G1q"]
    method = HMC(moves=24, most=most)
    x = steer(method, fixture.tilt(), n=200, islands=20, key=jr.key(0), together=20).x[:, 0]
    assert abs(x.mean() - 1) < 4 * np.sqrt(0.375 / len(x))
    assert abs(x.var() - 0.375) < 4 * 0.375 * np.sqrt(2 / len(x))


def test_a_step_turns_exactly_and_can_be_taken_back(x64):
    def bumpy(z):
        return -0.5 * jnp.sum(z**2) + jnp.sum(jnp.sin(3 * z))

    def flat(z):
        return -0.5 * jnp.sum(z**2)

    z, p = jnp.array([0.3, -0.8]), jnp.array([1.1, 0.4])
    for log_density, most in ((flat, 10.0), (bumpy, 10.0), (bumpy, 0.5)):
        step = rotations(most)(log_density, jnp.sum)
        state = IntegratorState(z, p, *jax.value_and_grad(log_density)(z))
        there = step(state, 0.7)
        back = step(there._replace(momentum=-there.momentum), 0.7)
        np.testing.assert_allclose(back.position, z, rtol=1e-10)
        np.testing.assert_allclose(-back.momentum, p, rtol=1e-10)
        if log_density is flat:
            np.testing.assert_allclose(there.position, np.cos(0.7) * z + np.sin(0.7) * p)
            continue
        both = jax.jacobian(lambda zp: _moved(step, log_density, zp))(jnp.concatenate([z, p]))
        assert np.linalg.det(both) == pytest.approx(1, rel=1e-8)


def _moved(step, log_density, zp):
    z, p = zp[:2], zp[2:]
    end = step(IntegratorState(z, p, *jax.value_and_grad(log_density)(z)), 0.7)
    return jnp.concatenate([end.position, end.momentum])
