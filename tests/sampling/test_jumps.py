"""Samplers that jump: exact marginals with the exact map, the semigroup, renoising."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import problems
from core.flow.path import PATHS, LinearPath
from core.oracle import OracleMap, SinglePoint
from core.sampling import SAMPLERS, at_units, generate, renoise
from core.sampling.jumps import Gamma
from tests.sampling.distributions import (
    COVARIANCE,
    MEAN,
    N,
    ends,
    gaussian,
    largest_deviation,
    samples_of,
)


@pytest.mark.parametrize("name", ["pushforward", "restart"])
@pytest.mark.parametrize("steps", [1, 7])
def test_the_exact_map_gives_the_data_at_any_number_of_steps(name, steps):
    assert largest_deviation(samples_of(gaussian(), name, steps)) < 4


@pytest.mark.parametrize("path", ["trig", "edm"])
def test_restarts_keep_the_data_on_paths_that_end_before_it(path):
    """The EDM path ends at sigma = 0.002; there, the prior leaves out the data (1 in 80)."""
    assert largest_deviation(samples_of(gaussian(PATHS[path]()), "restart", 3)) < 4


def test_the_yardstick_sees_a_wrong_sampler():
    exact = samples_of(gaussian(), "pushforward", 1)
    assert largest_deviation(exact + 0.05) > 4
    assert largest_deviation(1.05 * exact) > 4


@pytest.mark.parametrize("name", ["mixture", "gaussian"])
def test_pushforward_is_the_one_jump_whatever_the_grid(name, x64, getkey):
    """The semigroup: jumps along a grid compose to the whole jump, point by point."""
    exact = OracleMap(problems()[name], LinearPath())
    x = jr.normal(getkey(), (8, *exact.problem.shape))
    whole = jax.vmap(lambda y: exact(y, jnp.asarray(1.0), jnp.asarray(0.0)))(x)
    for times in ([1.0, 0.0], [1.0, 0.7, 0.1, 0.0]):
        found = ends(SAMPLERS["pushforward"], exact, x, times)
        assert jnp.allclose(found, whole, rtol=1e-8, atol=1e-8)


# --- Gamma ---


@pytest.mark.parametrize("path", PATHS)
def test_gamma_runs_from_pushforward_to_restart(path, x64, getkey):
    """With the same key, number by number, also where the path ends before the data."""
    exact = gaussian(PATHS[path](noise_std=0.5))
    times, x = jnp.asarray(at_units(exact.path, (1, 0.6, 0))), exact.path.prior(getkey(), (2,))

    def end(sampler):
        with jax.disable_jit():
            return sampler(exact, x, times, key=jr.key(0)).x

    first, last = end(SAMPLERS["pushforward"]), end(SAMPLERS["restart"])
    assert jnp.allclose(end(Gamma(0.0)), first, rtol=1e-7, atol=1e-9)
    assert jnp.allclose(end(Gamma(1.0)), last, rtol=1e-7, atol=1e-9)
    half = end(Gamma(0.5))
    assert jnp.abs(half - first).min() > 1e-3 and jnp.abs(half - last).min() > 1e-3


def test_gamma_is_the_share_of_fresh_noise_in_the_standard_deviation():
    """All data at 0, so the state is `sigma` times noise: 0.8 of it old, 0.6 of it fresh."""
    point = OracleMap(SinglePoint(jnp.zeros(1)), LinearPath())
    starts, times = jnp.full((4000, 1), 3.0), [1.0, 0.5, 0.25]
    found = np.asarray(ends(Gamma(0.6), point, starts, times)) / 0.25
    assert found.mean() == pytest.approx(0.8 * 3.0, abs=4 * 0.6 / 4000**0.5)
    assert found.std() == pytest.approx(0.6, rel=4 / 8000**0.5)


# --- Renoising ---


@pytest.mark.parametrize("path", PATHS)
def test_renoising_carries_one_marginal_to_the_next(path, x64):
    """Of Gaussian data: the marginal at `t` is N(alpha m, alpha^2 C + sigma^2 noise_std^2 I)."""
    path = PATHS[path]()
    u, t = (path.time_of_unit(jnp.asarray(unit)) for unit in (0.2, 0.6))
    root = np.linalg.cholesky(COVARIANCE)

    def one(key):
        key_data, key_noise, key_more = jr.split(key, 3)
        x_0 = MEAN + root @ jr.normal(key_data, (2,))
        x_u = path.interpolate(x_0, path.noise(key_noise, (2,)), u)
        return renoise(path, x_u, u, t, key_more)

    x_t = np.asarray(jax.jit(jax.vmap(one))(jr.split(jr.key(1), N)))
    alpha, sigma = float(path.alpha(t)), float(path.sigma(t)) * path.noise_std
    expected = alpha**2 * COVARIANCE + sigma**2 * np.eye(2)
    error = np.sqrt(np.diag(expected) / N)
    assert np.all(np.abs(x_t.mean(0) - alpha * MEAN) < 4 * error)
    scale = np.sqrt((expected**2 + np.outer(np.diag(expected), np.diag(expected))) / N)
    assert np.all(np.abs(np.cov(x_t.T) - expected) < 4 * scale)


@pytest.mark.parametrize("path", PATHS)
def test_renoising_to_the_same_time_is_the_identity(path, getkey):
    path, x = PATHS[path](), jr.normal(getkey(), (3,))
    for unit in (0.1, 0.9):
        t = path.time_of_unit(jnp.asarray(unit))
        assert jnp.allclose(renoise(path, x, t, t, getkey()), x, atol=1e-3)


def test_restart_renoises_every_sample_with_noise_of_its_own():
    point = OracleMap(SinglePoint(jnp.zeros(3)), LinearPath())
    cut = np.array([1.0, 0.5, 0.25])  # the map lands at 0.25 and the last step ends there
    out = generate(point, SAMPLERS["restart"], cut, (3,), 512, key=jr.key(0), batch=512).x
    assert len(np.unique(out)) == out.size
    assert out.std() == pytest.approx(0.25, rel=0.1)
