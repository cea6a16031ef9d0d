"""Trajectory tilting against the exact distribution of its own chain."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import sqrtm

import plugins.steering.fmtt as module
from core.errors import UserError
from core.flow.path import TrigPath
from core.oracle import OracleMap
from core.steering.fixtures import fixtures
from core.steering.linear import on_linear
from core.steering.steering import steer
from plugins.steering import FMTT, FMTTSearch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases():
    with jax.enable_x64(True):
        return fixtures()


def chain_log_z(steps: int) -> float:
    """`log E[prod w]` on G2 with the map, by a recursion: all of it is linear and Gaussian, so the
    expectation of the later weights given `x` is `exp(beta . x + gamma)`."""
    m, C, a = np.array([0.5, -0.3]), np.array([[1.44, 0.6], [0.6, 0.61]]), np.array([1, -0.7])
    one, h = np.eye(2), 1 / steps
    beta, gamma = np.zeros(2), 0.0
    for t in np.arange(1, steps + 1) * h:  # from the last step back to the first
        A = (1 - t) ** 2 * C + t**2 * one
        P = (t * one - (1 - t) * C) @ np.linalg.inv(A)
        q = -m - (1 - t) * P @ m  # v = P x + q
        B = np.real(sqrtm(C) @ np.linalg.inv(sqrtm(A)))
        e = m - (1 - t) * B @ m  # F = B x + e
        M = one - h * P - h * (one + (1 - t) * P)
        c = -h * q - h * (1 - t) * q + h * t * (1 - t) * B.T @ a
        gamma = h * a @ e + beta @ c + gamma + t * h * beta @ beta
        beta = h * B.T @ a + M.T @ beta
    return gamma + beta @ beta / 2


def test_the_bias_is_of_the_order_of_a_step_and_the_published_one():
    bias = {steps: chain_log_z(steps) - 1.15945 for steps in (50, 200, 800)}
    # published with 100,000 particles, whose weights had half of that effective: error 0.0031
    for steps, published in ((50, 1.1467), (200, 1.1570), (800, 1.1623)):
        assert abs(bias[steps] + 1.15945 - published) < 4 * 0.0031 + 5e-5
    assert bias[50] / bias[200] == pytest.approx(4, rel=0.1)
    assert bias[200] / bias[800] == pytest.approx(4, rel=0.1)


def test_log_z_is_that_of_its_chain_with_resampling(cases, x64):
    method, islands = FMTT(steps=6, threshold=0.8), 1500
    tilt = cases["G2"].tilt()
    steered = steer(method, tilt, n=12, islands=islands, key=jr.key(0), together=islands)
    ratio = np.exp(steered.log_z_islands - chain_log_z(6))
    assert abs(ratio.mean() - 1) < 4 * ratio.std(ddof=1) / np.sqrt(islands)
    assert abs(chain_log_z(6) - 1.15945) > 0.07  # so another chain would be seen
    assert steered.starts < 0.9  # it did resample


def test_with_the_value_function_and_its_guidance_weights_are_equal(cases, x64, monkeypatch):
    problem = cases["M1"].problem

    def value(tilt, look, x, t):
        """`log E[exp(x_0) | x_t = x]` of a mixture."""
        log_w, mean, std = problem.posterior(tilt.flow_map.path, x, t)
        V = jnp.sum(jax.nn.logsumexp(jnp.log(log_w) + mean + std**2 / 2, axis=-1))
        return V, (x, V)

    monkeypatch.setattr(module, "potential", value)
    method = FMTT(steps=100, look="naive", chi=1.0, most=1e9, threshold=0.0)
    steered = steer(method, cases["M1"].tilt(), n=64, islands=2, key=jr.key(0))
    assert steered.ess[-1] > 0.998
    assert abs(steered.log_z) < 2e-3  # what is left when the start's own value, log Z, is taken out


def test_the_weights_along_the_flow_are_the_rewards(cases, x64):
    """Without noise and guidance the increments telescope to importance sampling."""
    tilt = cases["M1"].tilt()
    method = FMTT(steps=150, look="tweedie", churn=0.0, threshold=0.0)
    island = jax.jit(lambda: method.island(tilt, 16, jr.key(0)))()
    np.testing.assert_allclose(island.log_w, jax.vmap(tilt.log_tilt)(island.x), atol=0.04)
    assert np.ptp(island.log_w) > 1


def test_the_map_of_any_path_is_taken_to_the_linear_one(cases, x64):
    fixture = cases["G2"]
    tilt = fixture.tilt()
    angles = OracleMap(problem=fixture.problem, path=TrigPath())
    moved = on_linear(dataclasses.replace(tilt, flow_map=angles), "fmtt").flow_map
    x, t, u = jnp.array([0.4, -1.1]), jnp.asarray(0.7), jnp.asarray(0.2)
    np.testing.assert_allclose(moved(x, t, u), tilt.flow_map(x, t, u), rtol=1e-10)
    np.testing.assert_allclose(moved.velocity(x, t), tilt.flow_map.velocity(x, t), rtol=1e-10)
    assert on_linear(tilt, "fmtt") is tilt


def test_the_search_keeps_the_best_and_says_that_it_is_no_distribution(cases, x64):
    tilt = cases["M2"].tilt()
    method = FMTTSearch(steps=12, look="tweedie", keep=0.25, selections=3)
    island = jax.jit(lambda: method.island(tilt, 16, jr.key(0)))()
    assert len(np.unique(island.ancestors)) <= 4
    assert len(np.unique(island.x)) == 16  # noise sets the copies apart
    rewards = jax.vmap(tilt.reward)(island.x)
    assert int(np.argmax(island.log_w)) == int(np.argmax(rewards))
    assert np.isneginf(island.log_w).sum() == 15
    assert float(island.x[np.argmax(rewards)][0]) < -1.2  # the rare mode
    assert not FMTTSearch.exact and FMTT.exact


def test_what_cannot_work_is_refused(cases):
    with pytest.raises(UserError, match="Laplacian"):
        FMTT(chi=1.0)
    with pytest.raises(UserError, match="look-ahead"):
        FMTT(look="best")
    with pytest.raises(UserError, match="keep"):
        FMTTSearch(keep=0.0)
