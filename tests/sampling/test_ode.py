"""Samplers that solve the ODE: their orders, where they are exact, the ends of every path."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import problems
from core.flow_map import AverageVelocityMap
from core.oracle import OracleMap, SinglePoint
from core.path import PATHS, CosinePath, LinearPath
from core.sampling import SAMPLERS, uniform_grid
from core.sampling.ode import AdaptiveOde
from core.sampling.sde import EulerMaruyama, HeunChurn
from tests.sampling.laws import ends, gaussian

ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "dpmpp-2m": 2}


@pytest.fixture(scope="module")
def curved():
    """A mixture on a path where DDIM is not Euler: the map, starts at 0.95, exact ends at 0.05."""
    with jax.enable_x64(True):
        exact = OracleMap(problems()["mixture"], CosinePath())
        starts = jr.normal(jr.key(0), (32, *exact.problem.shape))
        whole = jax.vmap(lambda x: exact(x, jnp.asarray(0.95), jnp.asarray(0.05)))
        return exact, starts, jax.jit(whole)(starts)


def error(sampler, curved, steps):
    exact, starts, whole = curved
    found = ends(sampler, exact, starts, np.linspace(0.95, 0.05, steps + 1))
    return float(jnp.linalg.norm(found - whole))


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_is_the_slope_of_the_error(name, curved, x64):
    errors = [error(SAMPLERS[name], curved, steps) for steps in (40, 80)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.1)


def test_adaptive_steps_keep_the_tolerance_and_a_smaller_one_costs_more(x64):
    flow_map = AverageVelocityMap(lambda x, s, t, cond: -3 * x, LinearPath())
    x, times = jnp.ones(2), jnp.asarray([1.0, 0.4, 0.0])
    coarse, fine = (AdaptiveOde(tol)(flow_map, x, times, key=jr.key(0)) for tol in (1e-3, 1e-9))
    errors = [float(jnp.abs(end.x - np.exp(3.0)).max()) for end in (coarse, fine)]
    assert errors[1] < 1e-6 < errors[0] < 0.1 and coarse.nfe < fine.nfe


@pytest.mark.parametrize("path", ["linear", "vp"])
def test_adaptive_solves_from_end_to_end(path, getkey):
    """Where pure noise has alpha = 0, and where the velocity grows without bound."""
    exact = gaussian(PATHS[path]())
    start = exact.path.prior(getkey(), (1, 2))
    times = uniform_grid(exact.path, 1)
    whole = exact(start[0], jnp.asarray(times[0]), jnp.asarray(times[1]))
    assert jnp.allclose(ends(AdaptiveOde(), exact, start, times)[0], whole, atol=1e-3)


# --- Step by step, so that nothing is compiled ---


def end(sampler, flow_map, x, times, key=jr.key(2)):
    with jax.disable_jit():
        return sampler(flow_map, x, jnp.asarray(times), key=key).x


@pytest.mark.parametrize("path", PATHS)
def test_one_point_is_found_exactly_and_nothing_divides_by_zero_at_the_ends(path, x64):
    """With one point for data the clean prediction is constant, and three steps are exact."""
    exact = OracleMap(SinglePoint(jnp.array([0.7, -0.4])), PATHS[path](noise_std=0.5))
    times, x = uniform_grid(exact.path, 3), exact.path.prior(jr.key(1), (2,))
    by_diffrax = ("euler", "heun", "adaptive")
    found = {
        name: end(sampler, exact, x, times)
        for name, sampler in SAMPLERS.items()
        if name not in by_diffrax
    }
    assert all(bool(jnp.isfinite(state).all()) for state in found.values())
    whole = exact(x, jnp.asarray(times[0]), jnp.asarray(times[-1]))
    for name in ("ddim", "dpmpp-2m", "pushforward"):
        assert jnp.allclose(found[name], whole, atol=1e-6)


def test_without_their_noise_they_are_solvers_of_the_ode(x64):
    """Heun and Euler by hand; churn's last step is Euler's. On the linear path DDIM is Euler."""
    exact, times = OracleMap(problems()["mixture"], LinearPath()), [1.0, 0.6, 0.3, 0.0]
    euler = heun = x = jnp.array([0.4])
    for s, t in zip(jnp.asarray(times[:-1]), jnp.asarray(times[1:])):
        euler = euler + (t - s) * exact.velocity(euler, s)
        v = exact.velocity(heun, s)
        ahead = exact.velocity(heun + (t - s) * v, t) if t > 0 else v
        heun = heun + (t - s) * (v + ahead) / 2
    for sampler, expected in (
        (HeunChurn(churn=0.0), heun),
        (EulerMaruyama(strength=0.0), euler),
        (SAMPLERS["ddim"], euler),
    ):
        assert not sampler.draws_noise(3)
        assert jnp.allclose(end(sampler, exact, x, times), expected, rtol=1e-10)


@pytest.mark.parametrize("name", ["restart", "gamma", "ancestral", "churn", "euler-maruyama"])
def test_those_that_draw_noise_say_so(name, x64):
    exact, times = gaussian(), uniform_grid(LinearPath(), 3)
    assert SAMPLERS[name].draws_noise(3)
    first, other = (end(SAMPLERS[name], exact, jnp.ones(2), times, jr.key(k)) for k in (0, 1))
    assert jnp.abs(first - other).min() > 1e-3
