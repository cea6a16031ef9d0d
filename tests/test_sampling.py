"""Samplers: exact marginals with the exact map, orders of the ODE steps, keys and batches."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import problems
from core.errors import UserError
from core.flow_map import AverageVelocityMap, ConsistencyMap
from core.oracle import GaussianProblem, OracleMap, SinglePoint
from core.path import PATHS, EDMPath, LinearPath, TrigPath
from core.sampling import SAMPLERS, check_sampler, generate, renoise, uniform_grid

N = 10_000
MEAN, COVARIANCE = np.array([0.5, -0.3]), np.array([[0.8, 0.3], [0.3, 0.5]])


def gaussian(path=LinearPath()):
    return OracleMap(GaussianProblem(jnp.asarray(MEAN), jnp.asarray(COVARIANCE)), path)


def largest_deviation(samples):
    """Of the mean and covariance from those of the data, in standard errors."""
    samples, n = np.asarray(samples, np.float64), len(samples)
    mean_error = np.sqrt(np.diag(COVARIANCE) / n)
    d = np.diag(COVARIANCE)
    covariance_error = np.sqrt((COVARIANCE**2 + np.outer(d, d)) / n)
    by_mean = np.abs(samples.mean(0) - MEAN) / mean_error
    by_covariance = np.abs(np.cov(samples.T) - COVARIANCE) / covariance_error
    return max(by_mean.max(), by_covariance.max())


def samples_of(flow_map, name, steps, n=N, key=jr.key(3), **options):
    grid = uniform_grid(flow_map.path, steps)
    return generate(
        flow_map, SAMPLERS[name], grid, flow_map.problem.shape, n, key=key, batch=n, **options
    )


# --- With the exact map ---


@pytest.mark.parametrize("name", ["pushforward", "restart"])
@pytest.mark.parametrize("steps", [1, 2, 7])
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
    for grid in (np.array([1.0, 0.0]), np.array([1.0, 0.7, 0.1, 0.0])):
        run = eqx.filter_jit(
            jax.vmap(lambda y: SAMPLERS["pushforward"](exact, y, jnp.asarray(grid), key=jr.key(0)))
        )
        assert jnp.allclose(run(x), whole, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("solver, order", [("euler", 1), ("heun", 2)])
def test_ode_steps_have_their_order_on_a_curved_problem(solver, order, x64, getkey):
    exact = OracleMap(problems()["mixture"], TrigPath())
    x = jr.normal(getkey(), (32, *exact.problem.shape))
    start, end = exact.path.t_max, exact.path.t_min
    whole = jax.jit(jax.vmap(lambda y: exact(y, jnp.asarray(start), jnp.asarray(end))))(x)
    errors = []
    for steps in (48, 96):
        grid = jnp.asarray(uniform_grid(exact.path, steps))
        sampler = SAMPLERS[solver]
        run = jax.jit(jax.vmap(lambda y, grid=grid: sampler(exact, y, grid, key=jr.key(0))))
        errors.append(float(jnp.linalg.norm(run(x) - whole)))
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.1)


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


# --- Generation ---


def test_every_sample_has_noise_of_its_own():
    still = AverageVelocityMap(lambda x, s, t, cond: jnp.zeros_like(x), LinearPath())
    grid = uniform_grid(still.path, 1)
    noise = generate(still, SAMPLERS["pushforward"], grid, (3,), 1000, key=jr.key(0), batch=256)
    assert noise.shape == (1000, 3)
    assert len(np.unique(noise)) == noise.size
    assert abs(noise.mean()) < 4 / 3000**0.5 and abs(noise.std() - 1) < 4 / 6000**0.5


def test_restart_renoises_every_sample_with_noise_of_its_own():
    point = OracleMap(SinglePoint(jnp.zeros(3)), LinearPath())
    cut = np.array([1.0, 0.5, 0.25])  # the map lands at 0.25 and the last step ends there
    out = generate(point, SAMPLERS["restart"], cut, (3,), 512, key=jr.key(0), batch=512)
    assert len(np.unique(out)) == out.size
    assert out.std() == pytest.approx(0.25, rel=0.1)


def test_batches_change_neither_shape_nor_repeatability_and_report_progress():
    flow_map, grid = gaussian(), uniform_grid(LinearPath(), 2)
    seen = []

    def draw(n, key, batch):
        sampler = SAMPLERS["restart"]
        return generate(
            flow_map, sampler, grid, (2,), n, key=key, batch=batch, progress=seen.append
        )

    first = draw(70, jr.key(0), 32)
    assert first.shape == (70, 2) and seen == [32, 32, 6]
    assert np.array_equal(first, draw(70, jr.key(0), 32))
    assert np.array_equal(first[:40], draw(40, jr.key(0), 32))
    assert not np.array_equal(first, draw(70, jr.key(1), 32))
    assert draw(5, jr.key(0), 32).shape == (5, 2) and seen[-1] == 5


def test_labels_reach_their_own_samples():
    def net(x, s, t, cond):
        return x - cond.label  # V such that F(x, 1, 0) is the label

    flow_map, labels = AverageVelocityMap(net, LinearPath()), np.arange(70) % 7
    grid = uniform_grid(flow_map.path, 1)
    out = generate(flow_map, SAMPLERS["pushforward"], grid, (2,), labels, key=jr.key(0), batch=32)
    assert np.allclose(out, np.stack([labels, labels], axis=1), atol=1e-5)


def test_one_program_serves_any_number_of_samples_and_any_grid_of_a_length():
    traced = []

    def net(x, s, t, cond):
        traced.append(1)
        return -x

    def draw(n, *grid):
        sampler, shape = SAMPLERS["pushforward"], (2,)
        generate(flow_map, sampler, np.array(grid), shape, n, key=jr.key(n), batch=16)
        return len(traced)

    flow_map = AverageVelocityMap(net, LinearPath())
    first = draw(5, 1.0, 0.5, 0.0)
    assert first == draw(40, 1.0, 0.2, 0.0) == draw(32, 0.9, 0.2, 0.1)


# --- What is refused ---


def test_grids_fall_from_noise_to_data():
    for path in (LinearPath(), EDMPath()):
        grid = uniform_grid(path, 4)
        assert grid[0] == path.t_max and grid[-1] == path.t_min
        assert np.allclose(np.diff(grid), np.diff(grid)[0]) and grid[1] < grid[0]


def test_steps_are_counted_in_evaluations():
    assert [SAMPLERS[name].steps(4) for name in ("pushforward", "restart", "euler", "heun")] == [
        4, 4, 4, 2,
    ]  # fmt: skip
    with pytest.raises(UserError, match="heun takes 2 evaluations a step, so 3 is not possible"):
        SAMPLERS["heun"].steps(3)


def test_a_consistency_model_is_sampled_by_restarts_only():
    model = ConsistencyMap(lambda x, s, t, cond: x, EDMPath())
    check_sampler("restart", SAMPLERS["restart"], model)
    for name in ("pushforward", "euler", "heun"):
        with pytest.raises(UserError, match=f"'{name}' jumps .* use --sampler restart"):
            check_sampler(name, SAMPLERS[name], model)
    for name, sampler in SAMPLERS.items():
        check_sampler(name, sampler, gaussian())
