"""Steering against tilted distributions that are known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.steering import weights
from core.steering.compress import Compressibility
from core.steering.fixtures import fixtures
from core.steering.own import Function, check_reward
from core.steering.prior import OdeMap
from core.steering.reward import Brightness, Observation, Symmetry
from core.steering.steering import steer
from core.steering.weights import RESAMPLING, Resampler, effective
from plugins.steering import PCN, SMC, SNIS, BestOfN, Slice

pytestmark = pytest.mark.slow

# From the specification, to the digits that it prints.
PUBLISHED = {"G1": 1.56, "G1q": -0.8531, "M1": 0.7454, "M2": -2.2799, "G2": 1.15945}


@pytest.fixture(scope="module")
def cases():
    with jax.enable_x64(True):
        return fixtures()


def score(steered, fixture):
    ratio = np.exp(steered.log_z_islands - fixture.log_z)
    return abs(ratio.mean() - 1) / (ratio.std(ddof=1) / np.sqrt(len(ratio)))


def test_the_closed_forms_are_the_published_ones(cases):
    for name, log_z in PUBLISHED.items():
        assert cases[name].log_z == pytest.approx(log_z, abs=6e-5)
    assert cases["G2 inpainting"].log_z == pytest.approx(-1.49831, abs=6e-6)
    np.testing.assert_allclose(cases["G2 inpainting"].mean, [0.9706, -0.1039], atol=6e-5)
    assert cases["M2"].mean[0] == pytest.approx(-1.9242, abs=6e-5)


METHODS = {
    "snis": SNIS(),
    "smc": SMC(steps=4),
    "no twist": SMC(steps=4, twist=False),
    "tweedie": SMC(steps=4, look="tweedie"),
    "rho": SMC(steps=4, rho=0.5),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_mean_of_z_is_z_for_few_particles(name, cases, x64):
    fixture = cases["G1"]
    steered = steer(METHODS[name], fixture.tilt(), n=16, islands=1500, key=jr.key(1), together=1500)
    assert score(steered, fixture) < 4
    values = steered.weights.reshape(1500, -1, 1) * (steered.x.reshape(1500, -1, 1) - fixture.mean)
    parts = values.sum(axis=(1, 2))
    assert abs(parts.sum()) < 4 * parts.std() * np.sqrt(len(parts))


@pytest.mark.parametrize("method", [PCN(moves=64), Slice(moves=12)], ids=["pcn", "slice"])
def test_chains_in_the_noise_reach_the_tilted_distribution(method, cases, x64):
    fixture = cases["G2"]
    x = steer(method, fixture.tilt(), n=64, islands=60, key=jr.key(2), together=60).x
    error = x.std(axis=0) / np.sqrt(len(x))
    assert np.all(np.abs(x.mean(axis=0) - fixture.mean) < 4 * error)
    np.testing.assert_allclose(np.cov(x.T), fixture.covariance, rtol=0.12)


def test_without_strength_the_prior_stays(cases, x64):
    tilt = dataclasses.replace(cases["G1"].tilt(), strength=jnp.zeros(()))
    steered = steer(SMC(steps=3), tilt, n=64, islands=40, key=jr.key(3))
    np.testing.assert_allclose(steered.log_z_islands, 0, atol=1e-12)
    np.testing.assert_allclose(steered.weights, 1 / len(steered.x), rtol=1e-12)
    error = steered.x.std() / np.sqrt(len(steered.x))
    assert abs(steered.x.mean() - 0.4) < 4 * error
    assert steered.x.var() == pytest.approx(1.5, rel=0.1)


def test_best_of_n_is_the_best_and_says_that_it_is_no_distribution(cases, x64):
    fixture = cases["G1"]
    steered = steer(BestOfN(), fixture.tilt(), n=16, islands=400, key=jr.key(0), together=400)
    best = (steered.x.reshape(400, 16).max(axis=1) - 0.4) / np.sqrt(1.5)
    # the mean of the largest of 16 standard normal draws, from the specification
    assert best.mean() == pytest.approx(1.7660, abs=4 * best.std() / 20)
    assert steered.mean(steered.x)[0] == pytest.approx(0.4 + np.sqrt(1.5) * best.mean())
    assert not BestOfN.exact and not BestOfN.normalises


def test_the_answer_does_not_depend_on_how_many_islands_run_together(cases, x64):
    tilt = cases["G1"].tilt()
    one, other = (
        steer(SMC(steps=3), tilt, n=8, islands=6, key=jr.key(0), together=k) for k in (2, 6)
    )
    np.testing.assert_allclose(one.x, other.x, rtol=1e-12)
    assert one.log_z == pytest.approx(other.log_z, rel=1e-12)


def test_a_velocity_alone_can_be_steered(cases, x64):
    fixture = cases["G1"]
    tilt = fixture.tilt()
    solved = OdeMap(flow_map=tilt.flow_map, path=tilt.flow_map.path, steps=16)
    x, s, t = jnp.array([0.7]), jnp.asarray(0.9), jnp.asarray(0.1)
    np.testing.assert_allclose(solved(x, s, t), tilt.flow_map(x, s, t), atol=2e-3)
    slope = jax.grad(lambda y: solved(y, s, t)[0])(x)
    np.testing.assert_allclose(slope, jax.grad(lambda y: tilt.flow_map(y, s, t)[0])(x), atol=5e-3)


@pytest.mark.parametrize("scheme", RESAMPLING)
def test_resampling_keeps_weights_in_the_mean(scheme):
    log_w = jnp.log(jnp.array([0.05, 0.15, 0.3, 0.5]))
    draw = jax.vmap(lambda key: Resampler(1.01, scheme)(key, log_w)[0])
    counts = np.asarray(jax.nn.one_hot(draw(jr.split(jr.key(0), 4000)), 4).sum(axis=1))
    np.testing.assert_allclose(counts.mean(axis=0), 4 * np.exp(log_w), atol=0.08)
    if scheme == "systematic":
        assert np.all(np.abs(counts - 4 * np.exp(log_w)) <= 1)
    index, kept, more, do = Resampler(0.1, scheme)(jr.key(0), log_w)
    np.testing.assert_array_equal(index, np.arange(4))
    np.testing.assert_array_equal(kept, log_w)
    assert float(more) == 0 and not bool(do)
    assert float(effective(jnp.zeros(8))) == pytest.approx(8)
    assert float(weights.log_mean(log_w)) == pytest.approx(np.log(0.25))


def test_rewards_say_what_they_say():
    white, black = jnp.ones((8, 8, 1)), -jnp.ones((8, 8, 1))
    assert float(Brightness()(white)) == 1 and float(Brightness()(black)) == 0
    slope = jnp.broadcast_to(jnp.linspace(-1, 1, 8)[None, :, None], (8, 8, 1))
    assert float(Symmetry()(white)) == 0 > float(Symmetry()(slope))
    half = jnp.zeros((8, 8, 1)).at[:, :4].set(1.0)
    seen = Observation(white, half, noise=0.5)
    assert float(seen(white)) == 0
    assert float(seen(white.at[:, 4:].set(0.0))) == 0  # what the mask hides does not count
    assert float(seen(white.at[0, 0, 0].set(0.0))) == -2
    noise = jr.normal(jr.key(0), (8, 8, 1))
    small = Compressibility((8, 8, 1))
    sizes = jax.jit(jax.vmap(small))(jnp.stack([white, 0.1 * noise, noise]))
    assert sizes[0] > sizes[1] > sizes[2] and not small.differentiable
    assert "gradient" in SMC().needs(Brightness()) and "gradient" not in SMC().needs(small)


@pytest.mark.parametrize(
    "function, message",
    [(lambda x: x[0], "single number"), (lambda x: jnp.sum(x) * jnp.nan, "not finite")],
)
def test_a_bad_reward_is_one_line(function, message):
    with pytest.raises(UserError, match=message):
        check_reward(Function(function), jnp.ones((3, 8, 8, 1)))
