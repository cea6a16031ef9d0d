"""The paths: coefficients, derivatives, slopes, inverses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.path import PATHS, EDMPath, LinearPath, TrigPath, VPPath
from tests.compiling import once

NAMES = list(PATHS)


def times(path, n=20):
    """Times inside the path, denser towards the data end, as noise levels are."""
    return path.t_min + (path.t_max - path.t_min) * np.linspace(0.05, 0.95, n) ** 3


def curves(path):
    """Value, derivative and slope of both coefficients."""
    for curve in ("alpha", "sigma"):
        yield getattr(path, curve), getattr(path, f"d_{curve}"), getattr(path, f"{curve}_slope")


def both(function):
    """`function(value, derivative, slope, *row)` of alpha and of sigma, at rows of arguments."""

    def run(path, *rows):
        return [jax.vmap(partial(function, *curve))(*rows) for curve in curves(path)]

    return once(run)


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_agree_with_autodiff(name, x64):
    path = PATHS[name]()
    for got, expected in both(lambda f, df, slope, t: (df(t), jax.grad(f)(t)))(path, times(path)):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_slope_is_the_difference_quotient(name, x64):
    path = PATHS[name]()
    s, t = (u.ravel() for u in np.meshgrid(times(path, 6), times(path, 7)))
    found = both(lambda f, df, slope, s, t: (slope(s, t) * (t - s), f(t) - f(s)))(path, s, t)
    for got, rise in found:
        np.testing.assert_allclose(got, rise, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_slope_loses_no_digits_at_small_gaps(name, x64):
    path = PATHS[name]()
    gaps = 1 + np.array([1e-2, 1e-4, 1e-6])[:, None]
    s = np.broadcast_to(np.float32(times(path)), (3, 20)).ravel()
    t = np.float32(times(path) * gaps).ravel()

    def slopes(f, df, slope, s, t):
        return slope(s, t), slope(s.astype(jnp.float64), t.astype(jnp.float64))

    for got, exact in both(slopes)(path, s, t):
        assert got.dtype == np.float32 and exact.dtype == np.float64
        np.testing.assert_allclose(got, exact, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_slope_is_smooth_on_the_diagonal(name, x64):
    """A divided difference has the derivatives f'(t), f''(t) / 2, f'''(t) / 3 at `s = t`."""
    path = PATHS[name]()

    def derivatives(f, df, slope, t):
        def along(u):
            return slope(t, u)

        of_target = jnp.stack([along(t), jax.grad(along)(t), jax.grad(jax.grad(along))(t)])
        of_source = jax.grad(lambda u: slope(u, t))(t)
        second = jax.grad(df)
        exact = jnp.stack([df(t), second(t) / 2, jax.grad(second)(t) / 3])
        return of_target, of_source, exact

    for of_target, of_source, exact in both(derivatives)(path, times(path, 5)):
        np.testing.assert_allclose(of_target, exact, rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(of_source, exact[:, 1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_functions_of_the_noise_to_signal_ratio_agree(name, x64):
    """Its inverse, unit time's, the determinant as its slope, and `log_snr` as minus its log."""
    path = PATHS[name]()

    @once
    @jax.vmap
    def run(t):
        back = path.time_of_eta(path.eta(t)), path.time_of_unit(path.unit_time(t))
        slope = path.alpha(t) ** 2 * jax.grad(path.eta)(t)
        return back, path.determinant(t), slope, path.log_snr(t), path.eta(t)

    (by_eta, by_unit), determinant, slope, log_snr, eta = run(times(path))
    np.testing.assert_allclose(by_eta, times(path), rtol=1e-10)
    np.testing.assert_allclose(by_unit, times(path), rtol=1e-10)
    assert np.all(determinant > 0)
    np.testing.assert_allclose(determinant, slope, rtol=1e-10)
    np.testing.assert_allclose(np.exp(-log_snr), eta, rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "trig", "cosine"])
def test_infinite_eta_is_the_end_of_the_path(name):
    path = PATHS[name]()
    ends = once(jax.vmap(path.time_of_eta))(np.float32([np.inf, 0.0]))
    np.testing.assert_allclose(ends, [path.t_max, 0.0], rtol=1e-5)
    assert ends[1] == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_conditional_velocity_is_the_time_derivative(name, normal, x64):
    path = PATHS[name]()

    @once
    def run(x_0, z, t):
        def one(t):
            slope = jax.jacfwd(lambda t: path.interpolate(x_0, z, t))(t)
            return slope, path.conditional_velocity(x_0, z, t)

        return jax.vmap(one)(t)

    expected, got = run(normal(3, 2), normal(3, 2), times(path))
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_vp_is_the_diffusion_with_linear_beta(x64):
    path, t = VPPath(), times(VPPath(), 5)
    alpha, sigma = once(jax.vmap(lambda t: (path.alpha(t), path.sigma(t))))(t)
    grids = [np.linspace(0, end, 2001) for end in t]
    integrals = np.array([np.trapezoid(0.1 + 19.9 * grid, grid) for grid in grids])
    np.testing.assert_allclose(alpha, np.exp(-0.5 * integrals), rtol=1e-10)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0, rtol=1e-14)


def test_vp_refuses_to_start_at_zero():
    with pytest.raises(ValueError, match="t_min > 0"):
        VPPath(t_min=0.0)


def test_vp_sigma_keeps_its_digits_near_data(x64):
    path, t = VPPath(t_min=1e-5), 1e-5
    variance = 2 * (19.9 * t**2 / 4 + 0.1 * t / 2)  # 1 - exp(-b) = b - b^2 / 2 + ...
    exact = np.sqrt(variance * (1 - variance / 2))
    np.testing.assert_allclose(once(path.sigma)(np.float32(t)), exact, rtol=1e-6)


def test_noise_and_prior_have_their_standard_deviations(getkey):
    @once
    def deviations(key):
        found = []
        for path in (EDMPath(noise_std=1.0), EDMPath(noise_std=0.5), TrigPath()):
            draws = path.noise(key, (50_000,)), path.prior(key, (50_000,))
            found.append([jnp.std(draw) for draw in draws])
        return jnp.array(found)

    expected = [[1.0, 80.0], [0.5, 40.0], [1.0, 1.0]]
    np.testing.assert_allclose(deviations(getkey()), expected, rtol=0.015)


@pytest.mark.parametrize("name", NAMES)
def test_times_may_be_python_floats_or_arrays_and_jit(name):
    path, t = PATHS[name](), 0.3
    names = ("alpha", "sigma", "d_alpha", "d_sigma", "eta", "log_snr", "determinant")

    def values(t):
        return [getattr(path, method)(t) for method in names]

    plain, compiled = once(lambda: values(t))(), once(values)(np.float32(t))
    for value in plain:
        assert value.shape == () and value.dtype == np.float32
    np.testing.assert_allclose(compiled, plain, rtol=1e-5)


def test_paths_are_static_under_jit():
    traces = []

    @jax.jit
    def alpha(path, t):
        traces.append(path)
        return path.alpha(t)

    alpha(LinearPath(), 0.1)
    alpha(LinearPath(), 0.2)
    assert len(traces) == 1
