"""Gradient guidance: its published biases, and where it is exact."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import spearmanr

from core.errors import UserError
from core.flow.path import LinearPath
from core.oracle import GaussianProblem, OracleMap
from core.steering.fixtures import fixtures
from core.steering.reward import Observation
from core.steering.steering import Tilt, steer
from plugins.steering import GradientGuide

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases():
    with jax.enable_x64(True):
        return fixtures()


def mean_and_variance(method, tilt):
    """Of the guided distribution: for a Gaussian and at most quadratic reward the whole map is
    affine."""
    ends = jax.jit(jax.vmap(lambda z: method.last(tilt, z, jr.key(0))))(jnp.array([[-1.0], [1.0]]))
    low, high = ends[:, 0]
    return float(low + high) / 2, float((high - low) / 2) ** 2


PUBLISHED = [
    ("G1", "tweedie", (2.1997, 1.5003)),  # exact: 2.2, 1.5
    ("G1q", "tweedie", (1.383, 0.0747)),  # wrong: the tilted distribution has 1, 0.375
    ("G1", "map", (1.64, 1.5)),  # wrong
    ("G1q", "map", (1.10, 0.024)),  # wrong
]


@pytest.mark.parametrize("fixture, look, published", PUBLISHED)
def test_the_published_distributions_come_out(fixture, look, published, cases, x64):
    method = GradientGuide(steps=2000, look=look, start=0.9999)
    mean, variance = mean_and_variance(method, cases[fixture].tilt())
    digits = 5e-3 if look == "map" else 5e-4
    assert mean == pytest.approx(published[0], abs=digits)
    # Euler's error in the variance is a thousandth at 2,000 steps
    assert variance == pytest.approx(published[1], rel=5e-3 if variance > 0.05 else 0.02)


def test_the_maps_guidance_without_fading_diverges_with_the_start(cases, x64):
    tilt = cases["G1"].tilt()
    steps = {0.99: 1000, 0.999: 8000}
    means = [
        mean_and_variance(
            GradientGuide(steps=steps[start], look="map", fade=False, start=start), tilt
        )[0]
        for start in steps
    ]
    np.testing.assert_allclose(means, [8.3, 12.5], atol=0.1)


def test_counting_the_spread_is_exact_for_unit_variance(x64):
    """Half of two coordinates observed; the posterior of `N(m, I)` is known."""
    m, y, noise, strength = np.array([0.5, -0.3]), np.array([1.2, 0.0]), 0.3, 2.0
    problem = GaussianProblem(jnp.asarray(m), jnp.eye(2))
    exact = OracleMap(problem=problem, path=LinearPath())
    reward = Observation(jnp.asarray(y), jnp.array([1.0, 0.0]), noise)
    tilt = Tilt(exact, reward, jnp.asarray(strength), (2,))
    precision = np.array([1 + strength / noise**2, 1.0])
    mean = np.array([(m[0] + strength * y[0] / noise**2) / precision[0], m[1]])
    ends = jnp.array([[-1.0, -1.0], [1.0, 1.0]])
    results = {}
    for covariance in (True, False):
        method = GradientGuide(steps=1000, covariance=covariance)
        low, high = jax.vmap(lambda z: method.last(tilt, z, jr.key(0)))(ends)
        results[covariance] = np.asarray((low + high) / 2), np.asarray((high - low) / 2) ** 2
    np.testing.assert_allclose(results[True][0], mean, atol=2e-3)
    np.testing.assert_allclose(results[True][1], 1 / precision, rtol=0.02)
    assert results[False][1][0] < 0.2 / precision[0]  # without it the variance is far too small


def test_the_length_of_guidance_is_that_of_the_velocity_or_less(cases, x64):
    tilt = cases["G2 inpainting"].tilt()
    x, t = jnp.array([0.3, -1.2]), jnp.asarray(0.6)
    v = tilt.flow_map.velocity(x, t)
    bent = {
        renorm: GradientGuide(renorm=renorm).velocity(tilt, x, t) - v
        for renorm in ("none", "rescale")
    }
    assert np.linalg.norm(bent["rescale"]) == pytest.approx(np.linalg.norm(v))
    cosine = bent["none"] @ bent["rescale"] / np.linalg.norm(bent["none"]) / np.linalg.norm(v)
    assert float(cosine) == pytest.approx(1)
    assert np.linalg.norm(bent["none"]) > 2 * np.linalg.norm(v)
    clipped = GradientGuide(renorm="clip").velocity(tilt, x, t) - v
    np.testing.assert_allclose(clipped, bent["rescale"], rtol=1e-6)
    weak = dataclasses.replace(tilt, strength=jnp.asarray(1e-3))
    np.testing.assert_allclose(
        GradientGuide(renorm="clip").velocity(weak, x, t) - v, bent["none"] / 1e3, rtol=1e-6
    )


def test_backward_steps_move_the_clean_example_up_the_reward(cases, x64):
    tilt = cases["G1q"].tilt()
    x, t = jnp.array([0.7]), jnp.asarray(0.5)
    v, climbed = (GradientGuide(backward=k, rate=0.1).velocity(tilt, x, t) for k in (0, 2))
    x_0 = x - t * v
    # lambda r = -(x - 1.2)^2, so a step of 0.1 takes a fifth of the way: two leave 0.64
    np.testing.assert_allclose(x - t * climbed, 1.2 + 0.64 * (x_0 - 1.2), rtol=1e-6)


def test_repeated_steps_keep_the_prior_without_a_reward(cases, x64):
    tilt = dataclasses.replace(cases["M1"].tilt(), strength=jnp.zeros(()))
    key = jr.key(0)
    x = steer(GradientGuide(steps=25, repeats=3), tilt, n=1000, islands=1, key=key).x[:, 0]
    assert abs(x.mean() - 0.1) < 4 * 1.441 / np.sqrt(1000)
    assert abs((x < -0.5).mean() - 0.3) < 4 * np.sqrt(0.21 / 1000)
    noise = tilt.noise(jr.split(jr.split(key, 1)[0])[0], 1000)[:, 0]
    assert spearmanr(noise, x).statistic < 0.9  # noise was put back: the flow alone keeps the order


def test_what_cannot_work_is_refused(cases, x64):
    with pytest.raises(UserError, match="target and mask"):
        GradientGuide(covariance=True).island(cases["G1"].tilt(), 2, jr.key(0))
    with pytest.raises(UserError, match="renorm"):
        GradientGuide(renorm="half")
    assert not GradientGuide.exact
