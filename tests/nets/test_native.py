"""Clocks and predictions of pretrained networks, on Gaussian data whose velocity is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.flow.path import CosinePath, EDMPath, LinearPath
from core.nets.native import (
    Predicted,
    check_clock,
    flow_map_of,
    in_native_times,
    log_sigmas,
    native_time,
    unit_interval,
)
from tests.compiling import once

DIT = "linear 0.0001 0.02 1000"
MEAN, STD = 0.7, 0.4
"""The data: normal numbers, all independent."""


def clean(x, alpha, sigma):
    """`E[x_0 | alpha x_0 + sigma z = x]`."""
    return MEAN + alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)


def steps():
    """`sqrt(abar_k)` and `sqrt(1 - abar_k)` of DDPM, by its product."""
    abar = np.cumprod(1 - (1e-4 + np.arange(1000) * (0.02 - 1e-4) / 999))
    return np.sqrt(abar), np.sqrt(1 - abar)


def sit(x, tau, other, cond):
    """SiT's network: `E[data - noise]` at `x = tau data + (1 - tau) noise`."""
    x_0 = clean(x, tau, 1 - tau)
    return x_0 - (x - tau * x_0) / (1 - tau)


def dit(y, k, kind):
    """DiT's network, of the noise level that lies between steps as their logarithms do."""
    signal, noise = steps()
    sigma = jnp.exp(jnp.interp(k, np.arange(1000.0), np.log(noise / signal)))
    alpha = 1 / jnp.sqrt(1 + sigma**2)
    sigma = sigma * alpha
    x_0 = clean(y, alpha, sigma)
    z = (y - alpha * x_0) / sigma
    return {"x_0": x_0, "noise": z, "velocity": alpha * z - sigma * x_0}[kind]


def velocity(path, x, t):
    x_0 = clean(x, path.alpha(t), path.sigma(t))
    z = (x - path.alpha(t) * x_0) / path.sigma(t)
    return path.d_alpha(t) * x_0 + path.d_sigma(t) * z


def test_sit_runs_from_noise_to_data(normal, rng, x64):
    x, u = normal(32, 3), rng.uniform(0.01, 0.99, 32)
    net = in_native_times(sit, "reversed")
    found = once(jax.vmap(lambda x, u: net(x, u, u)))(x, u)
    u = u[:, None]
    x_0 = clean(x, 1 - u, u)
    np.testing.assert_allclose(found, (x - x_0) / u, rtol=1e-5, atol=1e-5)


PATHS = {"linear": LinearPath(), "cosine": CosinePath(), "edm": EDMPath()}


@pytest.mark.parametrize("path", PATHS)
def test_what_dit_predicts_gives_the_velocity_of_any_path(path, rng, normal, x64):
    kinds = ("noise", "x_0", "velocity")
    nets = [in_native_times(lambda y, k, _, c, kind=kind: dit(y, k, kind), DIT) for kind in kinds]
    maps = [flow_map_of(net, PATHS[path], DIT, kind) for net, kind in zip(nets, kinds)]
    inside = maps[0].path
    others = [Predicted(net, inside, kind, "velocity") for net, kind in zip(nets, kinds)]
    times, x = rng.uniform(inside.t_min, inside.t_max, 32), normal(32, 3)

    def run(x, t):
        u = inside.unit_time(t)
        found = [flow_map.velocity(x, t) for flow_map in maps] + [net(x, u, u) for net in others]
        return found, velocity(inside, x, t)

    found, exact = once(jax.vmap(run))(x, times)
    for one in found:
        np.testing.assert_allclose(one, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "clock, first, last",
    [
        (DIT, 0.01000, 157.41),
        ("scaled_linear 0.00085 0.012 1000", 0.02917, 14.615),
        ("squaredcos_cap_v2 1000", 0.006425, 20291),
    ],
)
def test_steps_have_the_published_noise_levels(clock, first, last, x64):
    """The figures are those of ../shared/methods/pretrained.md, made by the schedules' products."""
    table = np.exp(log_sigmas(clock))
    np.testing.assert_allclose(table[[0, -1]], [first, last], rtol=2e-4)
    np.testing.assert_allclose(unit_interval(clock), table[[0, -1]] / (1 + table[[0, -1]]))
    found = once(jax.vmap(lambda u: native_time(clock, u)))(table / (1 + table))
    np.testing.assert_allclose(found, np.arange(1000), atol=1e-6)


def test_steps_are_the_product_of_the_signals():
    signal, noise = steps()
    np.testing.assert_allclose(np.exp(log_sigmas(DIT)), noise / signal, rtol=1e-9)


def test_times_outside_are_the_nearest_step_and_differentiable():
    ends = np.float32([0.0, 0.001, 0.999, 1.0])
    found, slope = once(jax.vmap(jax.value_and_grad(lambda u: native_time(DIT, u))))(ends)
    np.testing.assert_array_equal(found, [0, 0, 999, 999])
    np.testing.assert_array_equal(slope, 0)


def test_continuous_clocks(x64):
    u = np.array([0.2, 0.5, 0.9])
    clocks = ("unit", "reversed", "reversed_cosine", "thousand")
    found = once(jax.vmap(lambda u: [native_time(clock, u) for clock in clocks]))(u)
    angle = np.arctan(u / (1 - u)) / (np.pi / 2)
    wanted = u, 1 - u, 1 - angle, 1000 * u
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


def test_a_map_keeps_to_the_times_of_its_network():
    net = in_native_times(lambda x, k, other, cond: x, DIT)
    path = flow_map_of(net, LinearPath(), DIT, "noise").path
    np.testing.assert_allclose([path.t_min, path.t_max], [0.00990, 0.99369], atol=1e-5)
    whole = flow_map_of(sit, LinearPath(), "reversed").path
    assert (whole.t_min, whole.t_max) == (0, 1)


@pytest.mark.parametrize(
    "clock, message",
    [
        ("", "no clock is called ''"),
        ("backwards", "no clock is called 'backwards': choose one of unit, reversed"),
        ("unit 3", "the clock 'unit 3' is none: write 'unit'"),
        ("linear", "write 'linear A B N', such as"),
        ("linear 0.1 1.5 1000", "the clock 'linear 0.1 1.5 1000' is none"),
        ("linear 0.1 0.2 x", "the clock 'linear 0.1 0.2 x' is none"),
        ("squaredcos_cap_v2 1", "write 'squaredcos_cap_v2 N'"),
    ],
)
def test_clocks_that_are_none(clock, message):
    with pytest.raises(UserError, match="^[^\n]*$") as error:
        check_clock(clock)
    assert message in str(error.value)


def test_noise_of_another_spread_is_refused():
    with pytest.raises(ValueError, match="standard deviation 1"):
        Predicted(sit, LinearPath(noise_std=0.5), "noise")
