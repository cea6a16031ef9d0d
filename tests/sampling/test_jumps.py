"""Samplers that jump: exact marginals with the exact map, the semigroup, renoising."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import problems
from core.flow.path import PATHS, LinearPath
from core.oracle import OracleMap, SinglePoint
from core.sampling import SAMPLERS, Drawing, at_units, generate, renoise
from core.sampling.jumps import Gamma
from tests.compiling import once
from tests.sampling.distributions import (
    COVARIANCE,
    MEAN,
    SOME_PATHS,
    N,
    ends,
    gaussian,
    largest_deviation,
    samples_of,
)
from tests.sets import some


@pytest.mark.parametrize(
    "name, steps",
    [
        ("pushforward", 1),
        ("restart", 7),
        pytest.param("pushforward", 7, marks=pytest.mark.slow),
        pytest.param("restart", 1, marks=pytest.mark.slow),
    ],
)
def test_the_exact_map_gives_the_data_at_any_number_of_steps(name, steps):
    assert largest_deviation(samples_of(gaussian(), name, steps)) < 4


@pytest.mark.parametrize("path", some(["trig", "edm"], "edm"))
def test_restarts_keep_the_data_on_paths_that_end_before_it(path):
    """The EDM path ends at sigma = 0.002; there, the prior leaves out the data (1 in 80)."""
    assert largest_deviation(samples_of(gaussian(PATHS[path]()), "restart", 3)) < 4


def test_the_yardstick_sees_a_wrong_sampler():
    exact = samples_of(gaussian(), "pushforward", 1)
    assert largest_deviation(exact + 0.05) > 4
    assert largest_deviation(1.05 * exact) > 4


@pytest.mark.parametrize("name", some(["mixture", "gaussian"], "gaussian"))
def test_pushforward_is_the_one_jump_whatever_the_grid(name, x64, normal):
    """The semigroup: jumps along a grid compose to the whole jump, point by point."""
    exact = OracleMap(problems()[name], LinearPath())
    x = normal(8, *exact.problem.shape)
    jump = jax.vmap(lambda y: exact(y, jnp.asarray(1.0), jnp.asarray(0.0)))
    whole = once(jump)(x)
    for times in ([1.0, 0.0], [1.0, 0.7, 0.1, 0.0]):
        found = ends(SAMPLERS["pushforward"], exact, x, times)
        np.testing.assert_allclose(found, whole, rtol=1e-8, atol=1e-8)


# --- Gamma ---


@pytest.mark.parametrize("path", some(PATHS, "vp"))
def test_gamma_runs_from_pushforward_to_restart(path, x64, normal):
    """With the same key, number by number, also where the path ends before the data."""
    exact = gaussian(PATHS[path](noise_std=0.5))
    samplers = SAMPLERS["pushforward"], SAMPLERS["restart"], Gamma(0.0), Gamma(1.0), Gamma(0.5)

    def all_ends(z, times):
        x, key = exact.path.sigma(times[0]) * 0.5 * z, jr.key(0)
        return [sampler(exact, x, times, key=key).x for sampler in samplers]

    times = at_units(exact.path, (1, 0.6, 0))
    first, last, none, all_fresh, half = once(all_ends)(normal(2), times)
    np.testing.assert_allclose(none, first, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(all_fresh, last, rtol=1e-7, atol=1e-9)
    assert np.abs(half - first).min() > 1e-3 and np.abs(half - last).min() > 1e-3


def test_gamma_is_the_share_of_fresh_noise_in_the_standard_deviation():
    """All data at 0, so the state is `sigma` times noise: 0.8 of it old, 0.6 of it fresh."""
    point = OracleMap(SinglePoint(jnp.zeros(1)), LinearPath())
    starts, times = np.full((4000, 1), 3.0, np.float32), [1.0, 0.5, 0.25]
    found = ends(Gamma(0.6), point, starts, times) / 0.25
    assert found.mean() == pytest.approx(0.8 * 3.0, abs=4 * 0.6 / 4000**0.5)
    assert found.std() == pytest.approx(0.6, rel=4 / 8000**0.5)


# --- Renoising ---


@pytest.mark.parametrize("path", SOME_PATHS)
def test_renoising_carries_one_marginal_to_the_next(path, x64, rng):
    """Of Gaussian data: the marginal at `t` is N(alpha m, alpha^2 C + sigma^2 noise_std^2 I)."""
    path = PATHS[path]()

    def renoised(x_0, z):
        u, t = (path.time_of_unit(jnp.asarray(unit)) for unit in (0.2, 0.6))

        def one(x_0, z, key):
            return renoise(path, path.interpolate(x_0, z, u), u, t, key)

        return jax.vmap(one)(x_0, z, jr.split(jr.key(1), N)), path.alpha(t), path.sigma(t)

    x_0 = rng.multivariate_normal(MEAN, COVARIANCE, N)
    x_t, alpha, sigma = once(renoised)(x_0, path.noise_std * rng.normal(size=(N, 2)))
    sigma = sigma * path.noise_std
    expected = alpha**2 * COVARIANCE + sigma**2 * np.eye(2)
    error = np.sqrt(np.diag(expected) / N)
    assert np.all(np.abs(x_t.mean(0) - alpha * MEAN) < 4 * error)
    scale = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / N)
    assert np.all(np.abs(np.cov(x_t.T) - expected) < 4 * scale)


@pytest.mark.parametrize("path", SOME_PATHS)
def test_renoising_to_the_same_time_is_the_identity(path, normal):
    path, x = PATHS[path](), normal(3)

    def renoised(x, unit):
        t = path.time_of_unit(unit)
        return renoise(path, x, t, t, jr.key(0))

    for found in once(jax.vmap(renoised, (None, 0)))(x, np.float32([0.1, 0.9])):
        np.testing.assert_allclose(found, x, atol=1e-3)


def test_restart_renoises_every_sample_with_noise_of_its_own():
    point = OracleMap(SinglePoint(jnp.zeros(3)), LinearPath())
    cut = np.array([1.0, 0.5, 0.25])  # the map lands at 0.25 and the last step ends there
    drawing = Drawing(SAMPLERS["restart"], cut)
    out = generate(point, drawing, (3,), 512, key=jr.key(0), batch=512).x
    assert len(np.unique(out)) == out.size
    assert out.std() == pytest.approx(0.25, rel=0.1)
