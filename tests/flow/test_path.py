"""The paths: coefficients, derivatives, slopes, inverses."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.path import PATHS, EDMPath, LinearPath, TrigPath, VPPath

NAMES = list(PATHS)
CURVES = [(name, curve) for name in NAMES for curve in ("alpha", "sigma")]


def times(path, n=20):
    """Times inside the path, denser towards the data end, as noise levels are."""
    return path.t_min + (path.t_max - path.t_min) * jnp.linspace(0.05, 0.95, n) ** 3


def at(times, function):
    return jax.vmap(function)(times)


def curve_of(path, curve):
    return getattr(path, curve), getattr(path, f"d_{curve}"), getattr(path, f"{curve}_slope")


@pytest.mark.parametrize("name, curve", CURVES)
def test_derivatives_agree_with_autodiff(name, curve, x64):
    path = PATHS[name]()
    value, derivative, _ = curve_of(path, curve)
    got, expected = at(times(path), derivative), at(times(path), jax.grad(value))
    assert jnp.allclose(got, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name, curve", CURVES)
def test_slope_is_the_difference_quotient(name, curve, x64):
    path = PATHS[name]()
    value, _, slope = curve_of(path, curve)
    s, t = (u.ravel() for u in jnp.meshgrid(times(path, 6), times(path, 7)))
    rise = at(t, value) - at(s, value)
    assert jnp.allclose(jax.vmap(slope)(s, t) * (t - s), rise, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name, curve", CURVES)
def test_slope_loses_no_digits_at_small_gaps(name, curve, x64):
    path = PATHS[name]()
    _, _, slope = curve_of(path, curve)
    for gap in (1e-2, 1e-4, 1e-6):
        s = times(path).astype(jnp.float32)
        t = (times(path) * (1 + gap)).astype(jnp.float32)
        exact = jax.vmap(slope)(s.astype(jnp.float64), t.astype(jnp.float64))
        assert jnp.allclose(jax.vmap(slope)(s, t), exact, rtol=3e-6, atol=1e-7)


@pytest.mark.parametrize("name, curve", CURVES)
def test_slope_is_smooth_on_the_diagonal(name, curve, x64):
    """A divided difference has the derivatives f'(t), f''(t) / 2, f'''(t) / 3 at `s = t`."""
    path = PATHS[name]()
    _, derivative, slope = curve_of(path, curve)
    second = jax.grad(derivative)

    def of_target(t):
        def along(u):
            return slope(t, u)

        return jnp.stack([along(t), jax.grad(along)(t), jax.grad(jax.grad(along))(t)])

    def of_source(t):
        return jax.jvp(lambda u: slope(u, t), (t,), (jnp.ones_like(t),))[1]

    def expected(t):
        return jnp.stack([derivative(t), second(t) / 2, jax.grad(second)(t) / 3])

    exact = at(times(path, 5), expected)
    assert jnp.allclose(at(times(path, 5), of_target), exact, rtol=1e-9, atol=1e-10)
    assert jnp.allclose(at(times(path, 5), of_source), exact[:, 1], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_time_of_eta_inverts_eta(name, x64):
    path = PATHS[name]()
    back = at(times(path), lambda t: path.time_of_eta(path.eta(t)))
    assert jnp.allclose(back, times(path), rtol=1e-10)
    back = at(times(path), lambda t: path.time_of_unit(path.unit_time(t)))
    assert jnp.allclose(back, times(path), rtol=1e-10)


@pytest.mark.parametrize("name", ["linear", "trig", "cosine"])
def test_infinite_eta_is_the_end_of_the_path(name):
    path = PATHS[name]()
    assert jnp.allclose(path.time_of_eta(jnp.inf), path.t_max)
    assert path.time_of_eta(0.0) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_determinant_is_the_slope_of_eta(name, x64):
    path = PATHS[name]()
    determinant = at(times(path), path.determinant)
    expected = at(times(path), lambda t: path.alpha(t) ** 2 * jax.grad(path.eta)(t))
    assert jnp.all(determinant > 0)
    assert jnp.allclose(determinant, expected, rtol=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_log_snr_is_minus_the_log_of_eta(name, x64):
    path = PATHS[name]()
    eta = jnp.exp(-at(times(path), path.log_snr))
    assert jnp.allclose(eta, at(times(path), path.eta), rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_conditional_velocity_is_the_time_derivative(name, getkey, x64):
    path = PATHS[name]()
    x_0, z = jr.normal(getkey(), (2, 3, 2))
    expected = at(times(path), jax.jacfwd(lambda t: path.interpolate(x_0, z, t)))
    got = at(times(path), lambda t: path.conditional_velocity(x_0, z, t))
    assert jnp.allclose(got, expected, rtol=1e-12)


def test_vp_is_the_diffusion_with_linear_beta(x64):
    path = VPPath()
    for t in times(path, 5):
        grid = np.linspace(0, t, 2001)
        beta_integral = np.trapezoid(0.1 + 19.9 * grid, grid)
        assert jnp.allclose(path.alpha(t), np.exp(-0.5 * beta_integral), rtol=1e-10)
        assert jnp.allclose(path.alpha(t) ** 2 + path.sigma(t) ** 2, 1.0, rtol=1e-14)


def test_vp_refuses_to_start_at_zero():
    with pytest.raises(ValueError, match="t_min > 0"):
        VPPath(t_min=0.0)


def test_vp_sigma_keeps_its_digits_near_data(x64):
    path, t = VPPath(t_min=1e-5), 1e-5
    variance = 2 * (19.9 * t**2 / 4 + 0.1 * t / 2)  # 1 - exp(-b) = b - b^2 / 2 + ...
    exact = np.sqrt(variance * (1 - variance / 2))
    assert jnp.allclose(path.sigma(jnp.float32(t)), exact, rtol=1e-6)


@pytest.mark.parametrize("noise_std", [1.0, 0.5])
def test_noise_and_prior_have_their_standard_deviations(noise_std, getkey):
    path = EDMPath(noise_std=noise_std)
    assert jnp.allclose(jnp.std(path.noise(getkey(), (50_000,))), noise_std, rtol=0.015)
    assert jnp.allclose(jnp.std(path.prior(getkey(), (50_000,))), 80 * noise_std, rtol=0.015)
    assert jnp.allclose(jnp.std(TrigPath().prior(getkey(), (50_000,))), 1.0, rtol=0.015)


@pytest.mark.parametrize("name", NAMES)
def test_times_may_be_python_floats_or_arrays_and_jit(name):
    path = PATHS[name]()
    t = 0.3
    for method in ("alpha", "sigma", "d_alpha", "d_sigma", "eta", "log_snr", "determinant"):
        value = getattr(path, method)(t)
        assert value.shape == () and value.dtype == jnp.float32
        assert jnp.allclose(jax.jit(getattr(path, method))(jnp.asarray(t)), value, rtol=1e-5)


def test_paths_are_static_under_jit():
    traces = []

    @jax.jit
    def alpha(path, t):
        traces.append(path)
        return path.alpha(t)

    alpha(LinearPath(), 0.1)
    alpha(LinearPath(), 0.2)
    assert len(traces) == 1
