"""Conversions among denoiser, noise, velocity and score."""

import itertools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.conversions import PREDICTIONS, convert, diffusion_squared, drift_rate
from core.flow.path import PATHS, LinearPath, TrigPath

PAIRS = list(itertools.permutations(PREDICTIONS, 2))


def inner_times(path, n=20):
    """Times away from both ends, where some formula divides by zero."""
    return jax.vmap(path.time_of_eta)(jnp.geomspace(0.05, 20.0, n))


def one_state(path, t, key):
    """The four predictions when the pair itself is known; the score by autodiff of the density."""
    key_data, key_noise = jr.split(key)
    x_0, z = jr.normal(key_data, (4,)), path.noise(key_noise, (4,))
    x = path.interpolate(x_0, z, t)

    def log_density(x):
        std = path.noise_std * path.sigma(t)
        return jnp.sum(jax.scipy.stats.norm.logpdf(x, path.alpha(t) * x_0, std))

    _, velocity = jax.jvp(lambda u: path.interpolate(x_0, z, u), (t,), (jnp.ones_like(t),))
    return x, dict(x_0=x_0, noise=z, velocity=velocity, score=jax.grad(log_density)(x))


@pytest.mark.parametrize("noise_std", [1.0, 0.5])
@pytest.mark.parametrize("name", PATHS)
def test_every_conversion_describes_the_same_state(name, noise_std, getkey, x64):
    path = PATHS[name](noise_std=noise_std)
    times, key = inner_times(path), getkey()
    x, values = jax.vmap(lambda t: one_state(path, t, key))(times)
    for source, target in PAIRS:

        def one(value, x, t, source=source, target=target):
            return convert(path, value, x, t, source=source, target=target)

        got = jax.vmap(one)(values[source], x, times)
        assert jnp.allclose(got, values[target], rtol=1e-9, atol=1e-10), (source, target)


@pytest.mark.parametrize("name", PATHS)
def test_round_trips_in_float32(name, getkey):
    path = PATHS[name]()
    times, key = inner_times(path), getkey()
    x, values = jax.vmap(lambda t: one_state(path, t, key))(times)
    v, size = values["velocity"], jnp.max(jnp.abs(x), axis=1)
    for other in ("x_0", "noise", "score"):

        def there_and_back(v, x, t, other=other):
            there = convert(path, v, x, t, source="velocity", target=other)
            return convert(path, there, x, t, source=other, target="velocity")

        error = jnp.max(jnp.abs(jax.vmap(there_and_back)(v, x, times) - v), axis=1)
        # Dividing by sigma or alpha multiplies the rounding by eta or 1 / eta, up to 20 here.
        eta = jax.vmap(path.eta)(times)
        assert jnp.all(error < 1e-6 * (size + jnp.max(jnp.abs(v), axis=1)) * (eta + 1 / eta))


@pytest.mark.parametrize("name", ["linear", "trig"])
def test_velocity_to_data_and_noise_is_finite_at_both_ends(name, getkey):
    path = PATHS[name]()
    for t in (path.t_min, path.t_max):
        x_0, z = jr.normal(getkey(), (2, 4))
        x, v = path.interpolate(x_0, z, t), path.conditional_velocity(x_0, z, t)
        assert jnp.allclose(convert(path, v, x, t, source="velocity", target="x_0"), x_0, atol=1e-6)
        assert jnp.allclose(convert(path, v, x, t, source="velocity", target="noise"), z, atol=1e-6)


def test_linear_path_by_hand():
    path, x, x_0 = LinearPath(), jnp.asarray([0.5]), jnp.asarray([2.0])
    v = convert(path, x_0, x, 0.25, source="x_0", target="velocity")
    assert jnp.allclose(v, (x - x_0) / 0.25)


def test_trigflow_score_by_hand():
    """sCM: score = -(cos t sigma_d N + sin t x) / (sigma_d^2 sin t) with v = sigma_d N."""
    data_std, t = 0.5, 0.7
    path, x, v = TrigPath(noise_std=data_std), jnp.asarray([0.3]), jnp.asarray([-1.1])
    expected = -(np.cos(t) * v + np.sin(t) * x) / (data_std**2 * np.sin(t))
    got = convert(path, v, x, t, source="velocity", target="score")
    assert jnp.allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("noise_std", [1.0, 0.5])
@pytest.mark.parametrize("name", PATHS)
def test_sde_coefficients_keep_the_noise_level(name, noise_std, x64):
    """The variance `q` of the noise in `x_t` obeys `dq/dt = 2 f q + g^2`; the data decays by f."""
    path = PATHS[name](noise_std=noise_std)

    def q(t):
        return (path.noise_std * path.sigma(t)) ** 2

    def both(t):
        f, g_squared = drift_rate(path, t), diffusion_squared(path, t)
        return jnp.stack([2 * f * q(t) + g_squared, f * path.alpha(t)]), g_squared

    def expected(t):
        return jnp.stack([jax.grad(q)(t), jax.grad(path.alpha)(t)])

    rates, g_squared = jax.vmap(both)(inner_times(path))
    assert jnp.allclose(rates, jax.vmap(expected)(inner_times(path)), rtol=1e-9, atol=1e-12)
    assert jnp.all(g_squared > 0)


def test_probability_flow_velocity_is_half_of_the_sde(getkey, x64):
    path = PATHS["vp"](noise_std=0.7)
    t = jnp.asarray(0.4)
    x, values = one_state(path, t, getkey())
    v = drift_rate(path, t) * x - diffusion_squared(path, t) * values["score"] / 2
    assert jnp.allclose(v, values["velocity"], rtol=1e-10)


def test_same_prediction_is_returned_as_it_is():
    x = jnp.ones(3)
    assert convert(LinearPath(), x, x, 0.0, source="score", target="score") is x


@pytest.mark.parametrize("names", [("eps", "x_0"), ("x_0", "eps"), ("eps", "eps")])
def test_unknown_prediction_lists_the_known(names):
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="'eps'; choose among x_0, noise, velocity, score"):
        convert(LinearPath(), x, x, 0.5, source=names[0], target=names[1])
