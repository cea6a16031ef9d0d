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
from tests.compiling import once
from tests.sampling.distributions import ends, gaussian
from tests.sets import some

ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "dpmpp-2m": 2}


@pytest.fixture(scope="module", params=some(["gaussian", "mixture"], "gaussian"))
def curved(request):
    """A map on a path where DDIM is not Euler, starts at 0.95, exact ends at 0.05."""
    with jax.enable_x64(True):
        exact = OracleMap(problems()[request.param], CosinePath())
        starts = np.random.default_rng(0).normal(size=(32, *exact.problem.shape))
        whole = jax.vmap(lambda x: exact(x, jnp.asarray(0.95), jnp.asarray(0.05)))
        return exact, starts, once(whole)(starts)


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_is_the_slope_of_the_error(name, curved, x64):
    exact, starts, whole = curved

    def error(steps):
        found = ends(SAMPLERS[name], exact, starts, np.linspace(0.95, 0.05, steps + 1))
        return np.linalg.norm(found - whole)

    errors = [error(steps) for steps in (80, 160)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[name], abs=0.1)


def test_adaptive_steps_keep_the_tolerance_and_a_smaller_one_costs_more(x64):
    flow_map = AverageVelocityMap(lambda x, s, t, cond: -3 * x, LinearPath())

    def both(x, times):
        return [AdaptiveOde(tol)(flow_map, x, times, key=jr.key(0)) for tol in (1e-3, 1e-9)]

    coarse, fine = once(both)(np.ones(2), np.array([1.0, 0.4, 0.0]))
    errors = [np.abs(end.x - np.exp(3.0)).max() for end in (coarse, fine)]
    assert errors[1] < 1e-6 < errors[0] < 0.1 and coarse.nfe < fine.nfe


def test_adaptive_solves_from_end_to_end_where_the_velocity_grows_without_bound(normal):
    exact = gaussian(PATHS["vp"]())

    def both(z, times):
        x = exact.path.sigma(times[0]) * z
        return AdaptiveOde()(exact, x, times, key=jr.key(0)).x, exact(x, times[0], times[1])

    found, whole = once(both)(normal(2), np.float32(uniform_grid(exact.path, 1)))
    np.testing.assert_allclose(found, whole, atol=1e-3)


# --- Several samplers in one program ---


@pytest.mark.parametrize("path", some(PATHS, "vp"))
def test_one_point_is_found_exactly_and_nothing_divides_by_zero_at_the_ends(path, x64, normal):
    """With one point for data the clean prediction is constant, and three steps are exact."""
    exact = OracleMap(SinglePoint(jnp.array([0.7, -0.4])), PATHS[path](noise_std=0.5))
    chosen = {k: v for k, v in SAMPLERS.items() if k not in ("euler", "heun", "adaptive")}

    def all_ends(z, times):
        x, key = exact.path.sigma(times[0]) * 0.5 * z, jr.key(2)
        found = {name: each(exact, x, times, key=key).x for name, each in chosen.items()}
        return found, exact(x, times[0], times[-1])

    found, whole = once(all_ends)(normal(2), uniform_grid(exact.path, 3))
    assert all(np.isfinite(state).all() for state in found.values())
    for name in ("ddim", "dpmpp-2m", "pushforward"):
        np.testing.assert_allclose(found[name], whole, atol=1e-6)


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
    samplers = HeunChurn(churn=0.0), EulerMaruyama(strength=0.0), SAMPLERS["ddim"]
    all_ends = once(lambda x, t: [each(curved, x, t, key=jr.key(2)).x for each in samplers])
    found = all_ends(np.array([0.4]), np.array(times))
    assert not any(sampler.draws_noise(3) for sampler in samplers)
    np.testing.assert_allclose(np.ravel(found), [heun, euler, euler], rtol=1e-10)


def test_ancestral_steps_draw_from_the_bridge():
    """`x_t` given `x_s = 1.5` and `x_0 = 0`, as two Gaussians conditioned on each other say.

    With t = 1/4 and s = 1/2 on the linear path, `x_s = 2/3 x_t` plus noise of variance 2/9.
    """
    point = OracleMap(SinglePoint(jnp.zeros(1)), LinearPath())
    starts = np.full((4000, 1), 1.5, np.float32)
    found = ends(SAMPLERS["ancestral"], point, starts, [0.5, 0.25])
    precision = 1 / 0.25**2 + (2 / 3) ** 2 / (2 / 9)
    mean = (2 / 3) * 1.5 / (2 / 9) / precision
    assert found.mean() == pytest.approx(mean, abs=4 * (1 / precision / 4000) ** 0.5)
    assert found.std() == pytest.approx(precision**-0.5, rel=4 / 8000**0.5)
