"""Conversions among denoiser, noise, velocity and score."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.conversions import PREDICTIONS, convert, diffusion_squared, drift_rate
from core.flow.path import PATHS, LinearPath, TrigPath
from tests.compiling import once

PAIRS = list(itertools.permutations(PREDICTIONS, 2))


def inner_times(path, n=20):
    """Times away from both ends, where some formula divides by zero."""
    return jax.vmap(path.time_of_eta)(jnp.geomspace(0.05, 20.0, n))


def one_state(path, t, x_0, unit):
    """The four predictions when the pair itself is known; the score by autodiff of the density."""
    z = path.noise_std * unit
    x = path.interpolate(x_0, z, t)

    def log_density(x):
        std = path.noise_std * path.sigma(t)
        return jnp.sum(jax.scipy.stats.norm.logpdf(x, path.alpha(t) * x_0, std))

    _, velocity = jax.jvp(lambda u: path.interpolate(x_0, z, u), (t,), (jnp.ones_like(t),))
    return x, dict(x_0=x_0, noise=z, velocity=velocity, score=jax.grad(log_density)(x))


ON = [(name, noise_std) for name in PATHS for noise_std in (1.0, 0.5)]
QUICK = [("trig", 0.5), ("vp", 0.5), ("edm", 0.5)]


@pytest.mark.parametrize(
    "name, noise_std",
    [pytest.param(*on, marks=[] if on in QUICK else pytest.mark.slow) for on in ON],
)
def test_every_conversion_describes_the_same_state(name, noise_std, normal, x64):
    path = PATHS[name](noise_std=noise_std)

    @once
    def run(x_0, unit):
        def one(t):
            x, values = one_state(path, t, x_0, unit)
            return values, [
                convert(path, values[source], x, t, source=source, target=target)
                for source, target in PAIRS
            ]

        return jax.vmap(one)(inner_times(path))

    values, found = run(normal(4), normal(4))
    for (source, target), got in zip(PAIRS, found, strict=True):
        expected, name = np.broadcast_to(values[target], got.shape), f"{source} to {target}"
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("name", PATHS)
def test_round_trips_in_float32(name, normal):
    path, others = PATHS[name](), ("x_0", "noise", "score")

    @once
    def run(x_0, unit):
        def one(t):
            x, values = one_state(path, t, x_0, unit)
            v, errors = values["velocity"], []
            for other in others:
                there = convert(path, v, x, t, source="velocity", target=other)
                back = convert(path, there, x, t, source=other, target="velocity")
                errors.append(jnp.max(jnp.abs(back - v)))
            return jnp.stack(errors), jnp.max(jnp.abs(x)) + jnp.max(jnp.abs(v)), path.eta(t)

        return jax.vmap(one)(inner_times(path))

    errors, size, eta = run(normal(4), normal(4))
    # Dividing by sigma or alpha multiplies the rounding by eta or 1 / eta, up to 20 here.
    assert np.all(errors < 1e-6 * (size * (eta + 1 / eta))[:, None])


@pytest.mark.parametrize("name", ["linear", "trig"])
def test_velocity_to_data_and_noise_is_finite_at_both_ends(name, normal):
    path = PATHS[name]()

    @once
    def run(x_0, z):
        def one(t):
            x, v = path.interpolate(x_0, z, t), path.conditional_velocity(x_0, z, t)
            return [convert(path, v, x, t, source="velocity", target=a) for a in ("x_0", "noise")]

        return jax.vmap(one)(jnp.array([path.t_min, path.t_max]))

    x_0, z = normal(4), normal(4)
    clean, noise = run(x_0, z)
    np.testing.assert_allclose(clean, [x_0, x_0], atol=1e-6, rtol=1e-5)
    np.testing.assert_allclose(noise, [z, z], atol=1e-6, rtol=1e-5)


def test_linear_path_by_hand():
    given = partial(convert, LinearPath(), t=0.25, source="x_0", target="velocity")
    v = once(lambda x_0, x: given(x_0, x))(np.float32([2.0]), np.float32([0.5]))
    np.testing.assert_allclose(v, (0.5 - 2.0) / 0.25, rtol=1e-6)


def test_trigflow_score_by_hand():
    """sCM: score = -(cos t sigma_d N + sin t x) / (sigma_d^2 sin t) with v = sigma_d N."""
    data_std, t, x, v = 0.5, 0.7, np.float32([0.3]), np.float32([-1.1])
    path = TrigPath(noise_std=data_std)
    got = once(lambda v, x: convert(path, v, x, t, source="velocity", target="score"))(v, x)
    expected = -(np.cos(t) * v + np.sin(t) * x) / (data_std**2 * np.sin(t))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("noise_std", [1.0, 0.5])
@pytest.mark.parametrize("name", PATHS)
def test_sde_coefficients_keep_the_noise_level(name, noise_std, x64):
    """The variance `q` of the noise in `x_t` obeys `dq/dt = 2 f q + g^2`; the data decays by f."""
    path = PATHS[name](noise_std=noise_std)

    def q(t):
        return (path.noise_std * path.sigma(t)) ** 2

    @once
    def run():
        def one(t):
            f, g_squared = drift_rate(path, t), diffusion_squared(path, t)
            rates = jnp.stack([2 * f * q(t) + g_squared, f * path.alpha(t)])
            return rates, jnp.stack([jax.grad(q)(t), jax.grad(path.alpha)(t)]), g_squared

        return jax.vmap(one)(inner_times(path))

    rates, expected, g_squared = run()
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-12)
    assert np.all(g_squared > 0)


def test_probability_flow_velocity_is_half_of_the_sde(normal, x64):
    path = PATHS["vp"](noise_std=0.7)

    @once
    def run(x_0, unit, t):
        x, values = one_state(path, t, x_0, unit)
        drift = drift_rate(path, t) * x - diffusion_squared(path, t) * values["score"] / 2
        return drift, values["velocity"]

    v, expected = run(normal(4), normal(4), np.array(0.4))
    np.testing.assert_allclose(v, expected, rtol=1e-10)


def test_same_prediction_is_returned_as_it_is():
    x = jnp.ones(3)
    assert convert(LinearPath(), x, x, 0.0, source="score", target="score") is x


@pytest.mark.parametrize("names", [("eps", "x_0"), ("x_0", "eps"), ("eps", "eps")])
def test_unknown_prediction_lists_the_known(names):
    x = jnp.ones(3)
    with pytest.raises(ValueError, match="'eps'; choose among x_0, noise, velocity, score"):
        convert(LinearPath(), x, x, 0.5, source=names[0], target=names[1])
