"""Samplers that solve the ODE: their orders, where they are exact, the ends of every path."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import problems
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import PATHS, CosinePath, LinearPath
from core.oracle import OracleMap, SinglePoint
from core.sampling import SAMPLERS, uniform_grid
from core.sampling.ode import AdaptiveOde
from core.sampling.sde import EulerMaruyama, HeunChurn
from tests.sampling.distributions import ends, gaussian

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


def test_adaptive_solves_from_end_to_end_where_the_velocity_grows_without_bound(getkey):
    exact = gaussian(PATHS["vp"]())
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
    curved = AverageVelocityMap(lambda x, s, t, cond: jnp.sin(3 * x) + s, LinearPath())
    times = [1.0, 0.6, 0.3, 0.0]
    euler = heun = 0.4
    for s, t in zip(times[:-1], times[1:]):
        euler = euler + (t - s) * (np.sin(3 * euler) + s)
        v = np.sin(3 * heun) + s
        ahead = np.sin(3 * (heun + (t - s) * v)) + t if t > 0 else v
        heun = heun + (t - s) * (v + ahead) / 2
    for sampler, expected in (
        (HeunChurn(churn=0.0), heun),
        (EulerMaruyama(strength=0.0), euler),
        (SAMPLERS["ddim"], euler),
    ):
        assert not sampler.draws_noise(3)
        found = end(sampler, curved, jnp.array([0.4]), times)
        assert jnp.allclose(found, expected, rtol=1e-10)


def test_ancestral_steps_draw_from_the_bridge():
    """`x_t` given `x_s = 1.5` and `x_0 = 0`, as two Gaussians conditioned on each other say.

    With t = 1/4 and s = 1/2 on the linear path, `x_s = 2/3 x_t` plus noise of variance 2/9.
    """
    point = OracleMap(SinglePoint(jnp.zeros(1)), LinearPath())
    found = np.asarray(ends(SAMPLERS["ancestral"], point, jnp.full((4000, 1), 1.5), [0.5, 0.25]))
    precision = 1 / 0.25**2 + (2 / 3) ** 2 / (2 / 9)
    mean = (2 / 3) * 1.5 / (2 / 9) / precision
    assert found.mean() == pytest.approx(mean, abs=4 * (1 / precision / 4000) ** 0.5)
    assert found.std() == pytest.approx(precision**-0.5, rel=4 / 8000**0.5)
