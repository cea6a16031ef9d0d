"""Uniform boxes: exact on every path, from pure noise to the hard edges of the data."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.special
import scipy.stats

from core.data.toy import CheckerboardData
from core.flow.path import EDMPath, LinearPath, TrigPath, VPPath
from core.oracle import BoxMixture, OracleMap, checkerboard
from core.report.drawn import Drawn
from core.report.evaluation import MAP_ERROR_SAMPLES, _exact_samples, map_error
from core.sampling import SAMPLERS, drawing_of
from tests.compiling import on_host, once

LINE = [0.3, 0.7], [[-1.5], [0.5]], [[-1.0], [0.9]]  # weights, low, high
PLANE = (
    [0.5, 0.2, 0.3],
    [[-1.0, -2.0], [0.0, 0.0], [0.2, -0.3]],
    [[0.5, 0.3], [1.5, 1.0], [0.6, 2.0]],
)


def boxes(values):
    return BoxMixture(*(jnp.array(part) for part in values))


@once
def posteriors(problem, path, x, t):
    """Row by row `log p_t(x)`, `E[x_0 | x]` and `E[z | x]`."""

    def one(x, t):
        return problem.log_prob(path, x, t), *problem.posterior_means(path, x, t)

    return jax.vmap(one)(x, t)


@once
def states(problem, path, etas, key):
    """Eight states and times for each noise-to-signal ratio, with data and noise more spread."""
    key_data, key_noise = jr.split(key)
    t = jnp.repeat(jnp.stack([path.time_of_eta(jnp.asarray(eta)) for eta in etas]), 8)
    x_0, z = (2 * jr.normal(k, (len(t), *problem.shape)) for k in (key_data, key_noise))
    return jax.vmap(path.interpolate)(x_0, path.noise_std * z, t), t


def moments(problem):
    """Mean and covariance of the data."""
    weights, low, high = (
        np.asarray(leaf, float) for leaf in (problem.weights, problem.low, problem.high)
    )
    centres = (low + high) / 2
    mean = weights @ centres
    within = np.diag(weights @ (high - low) ** 2 / 12)
    return mean, within + (centres - mean).T @ (weights[:, None] * (centres - mean))


def by_quadrature(values, path, x, t):
    """`log p_t(x)`, `E[x_0 | x]` and `E[z | x]` by integrals over the data, 160 nodes an axis."""
    nodes, node_weights = np.polynomial.legendre.leggauss(160)
    alpha, sigma, dim = float(path.alpha(t)), float(path.sigma(t)), len(x)
    points, shares = [], []
    for weight, low, high in zip(*(np.array(part) for part in values)):
        axes = [(low + high)[i] / 2 + (high - low)[i] / 2 * nodes for i in range(dim)]
        points.append(np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, dim))
        shares.append(weight * functools.reduce(np.multiply.outer, [node_weights / 2] * dim))
    x_0 = np.concatenate(points)
    z = (x - alpha * x_0) / sigma
    log_densities = scipy.stats.norm.logpdf(x, alpha * x_0, path.noise_std * sigma).sum(axis=1)
    log_p, posterior = log_densities.max(), np.exp(log_densities - log_densities.max())
    posterior = posterior * np.ravel(shares)
    mass = posterior.sum()
    return log_p + np.log(mass), posterior @ x_0 / mass, posterior @ z / mass


@pytest.mark.parametrize(
    "values, path", [(LINE, LinearPath(noise_std=0.5)), (PLANE, EDMPath(noise_std=2.0))]
)
def test_posteriors_agree_with_integrals_over_the_data(values, path, getkey, x64):
    problem = boxes(values)
    x, t = states(problem, path, (0.1, 0.4, 3.0, 1e3), getkey())
    exact = posteriors(problem, path, x, t)
    for x, t, *got in zip(x, t, *exact):
        for value, expected in zip(got, by_quadrature(values, path, x, t)):
            assert np.allclose(value, expected, rtol=1e-12, atol=1e-12), (x, t)


def test_float32_agrees_with_float64(getkey, x64):
    """To what rounding densities of up to `exp(-800)` does to the weights of the boxes."""
    problem, path = boxes(PLANE), LinearPath()
    x, t = states(problem, path, (0.1, 0.4, 3.0, 1e3), getkey())
    given = on_host((problem, path, x, t))
    single = jax.tree.map(lambda leaf: leaf.astype(np.float32), given)
    double = jax.tree.map(lambda leaf: leaf.astype(np.float64), single)
    for value, expected in zip(posteriors(*single), posteriors(*double)):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected, rtol=5e-5, atol=5e-5)


def test_density_gives_the_score_and_is_carried_by_the_velocity(getkey, x64):
    """Tweedie, E[z | x] = -noise_std^2 sigma grad log p, and the continuity equation,

    d log p / dt = -div v - v . grad log p.
    """
    problem, path = boxes(PLANE), VPPath(noise_std=0.8)

    @once
    @jax.vmap
    def residuals(x, t):
        score, rate = jax.grad(lambda x, t: problem.log_prob(path, x, t), (0, 1))(x, t)
        v = problem.velocity(path, x, t)
        divergence = jnp.trace(jax.jacfwd(lambda x: problem.velocity(path, x, t))(x))
        tweedie = problem.noise_mean(path, x, t) + path.noise_std**2 * path.sigma(t) * score
        return tweedie, rate + divergence + v @ score

    for residual in residuals(*states(problem, path, (0.1, 0.6, 5.0), getkey())):
        np.testing.assert_allclose(residual, 0.0, atol=1e-9)


@pytest.mark.parametrize("width", [0.5, 1e-3])
def test_tails_keep_their_digits_in_float32(width):
    """One box, up to a thousand standard deviations of noise away, by the scaled erfc of SciPy."""
    problem, path, sd = boxes(([1.0], [[0.0]], [[width]])), LinearPath(), np.full(4, 0.01, "f4")
    x = np.float32([[-0.05], [-0.3], [-1.0], [-10.0]])
    got_log_p, got_x_0, got_z = posteriors(problem, path, x, sd)
    x, sd, h = (np.asarray(value, float) for value in (x[:, 0], sd, np.asarray(problem.high)[0, 0]))
    alpha = 1 - sd
    near, far = -x / sd, (alpha * h - x) / sd  # the range of -z
    fall = (near - far) * (near + far) / 2
    mills = [scipy.special.erfcx(end / 2**0.5) * (np.pi / 2) ** 0.5 for end in (near, far)]
    mass = mills[0] - np.exp(fall) * mills[1]  # over the density of the near end
    z = np.expm1(fall) / mass
    assert np.allclose(got_z[:, 0], z, rtol=1e-6)
    assert np.allclose(got_x_0[:, 0], (x - sd * z) / alpha, rtol=1e-4, atol=1e-6 * h)
    log_p = np.log(mass / (alpha * h)) - near**2 / 2 - np.log(2 * np.pi) / 2
    assert np.allclose(got_log_p, log_p, rtol=1e-6)


def test_pure_noise_has_the_limits_of_the_series_in_alpha(normal):
    """E[x_0 | x] = mean + alpha covariance x / noise_std^2 + ..., so with its slope in time.

    And log p = -|x - alpha mean|^2 / (2 noise_std^2 sigma^2) - dim log sigma + ....
    """
    problem, path = boxes(PLANE), LinearPath(noise_std=0.5)
    mean, covariance = moments(problem)
    x = np.float32([*normal(3, 2), [0.0, 0.0], [-3.0, 4.0]])

    @once
    @jax.vmap
    def jet(x):
        t = jnp.ones(())
        means = jax.jvp(lambda t: problem.posterior_means(path, x, t), (t,), (jnp.ones(()),))
        return *means, jax.grad(functools.partial(problem.log_prob, path), (0, 1))(x, t)

    (x_0, z), (dx_0, dz), (score, rate) = jet(x)
    assert np.allclose(x_0, mean, atol=3e-6) and np.allclose(z, x, rtol=1e-6)
    assert np.allclose(dx_0, -x @ covariance / 0.25, rtol=1e-5, atol=3e-5)
    assert np.allclose(dz, mean - x, rtol=1e-5, atol=1e-5)
    assert np.allclose(score, -x / 0.25, rtol=1e-6)
    assert np.allclose(rate, np.sum(x * (x - mean), axis=1) / 0.25 - 2, rtol=1e-5, atol=1e-5)


def test_values_and_derivatives_are_finite_from_data_to_noise(normal):
    """In float32, at and near both ends, in a box, on edges and corners, between and far away."""
    problem, path = checkerboard(), TrigPath()

    @once
    @jax.vmap
    def everything(x, t, dx):
        along = jax.jvp(functools.partial(problem.posterior_means, path), (x, t), (dx, dx[0]))
        density = jax.value_and_grad(functools.partial(problem.log_prob, path), (0, 1))
        return along, density(x, t)

    x = np.float32([[0.3, 0.4], [0.5, -0.5], [0.0, 0.0], [1.0, 0.5], [2.0, 2.5], [0.0, 100.0]])
    times = np.float32([0.0, 1e-3, path.t_max - 1e-3, path.t_max])
    x, t = np.tile(x, (4, 1)), np.repeat(times, 6)
    for leaf in jax.tree.leaves(everything(x, t, normal(*x.shape))):
        assert leaf.dtype == np.float32 and np.all(np.isfinite(leaf))


def test_data_end_is_the_point_itself_or_the_nearest_of_the_boxes():
    x = np.float32([[0.3, 0.4], [-1.999, 1.4], [2.5, 1.75]])
    nearest = [[0.3, 0.4], [-1.999, 1.0], [2.0, 1.75]]
    log_p, x_0, z = posteriors(checkerboard(), LinearPath(), x, np.zeros(3, "f4"))
    np.testing.assert_allclose(x_0, nearest, atol=1e-6)
    np.testing.assert_allclose(z, 0.0, atol=1e-6)
    assert log_p[0] == pytest.approx(-np.log(8.0), rel=1e-5)


def test_posterior_samples_have_the_posterior_moments(getkey):
    """Means against `x_0_mean`, covariances against its Jacobian (second-order Tweedie).

    Between the boxes, in one of them near the data end, far outside, and nearly at pure noise.
    """
    problem, path, n = boxes(PLANE), LinearPath(), 10_000
    low, high = (np.asarray(ends)[None] for ends in (problem.low, problem.high))

    @once
    def run(key, x, t):
        draws = jax.vmap(lambda key: problem.sample_posterior(path, key, x, t))(jr.split(key, n))
        x_0_mean = functools.partial(problem.x_0_mean, path)
        return draws, x_0_mean(x, t), jax.jacfwd(x_0_mean)(x, t)

    for t, x in ((0.5, [0.3, -0.2]), (0.05, [0.45, 0.1]), (0.1, [1.8, 3.0]), (0.999, [0.5, -1.0])):
        draws, mean, jacobian = run(getkey(), np.float32(x), np.float32(t))
        draws = np.asarray(draws, float)
        inside = (draws[:, None] >= low) & (draws[:, None] <= high)
        assert inside.all(axis=2).any(axis=1).all()
        centred, covariance = draws - mean, t**2 / (1 - t) * jacobian
        products = centred[:, :, None] * centred[:, None, :]
        for values, expected in ((centred, np.zeros(2)), (products, covariance)):
            assert np.all(np.abs(values.mean(0) - expected) < 4 * values.std(0) / n**0.5), t


def cells(points, a_side):
    """Counts in `a_side^2` cells of each of the dark squares, in one row, and how many are left."""
    edges = np.linspace(-2, 2, 4 * a_side + 1)
    counts = np.histogram2d(points[:, 0], points[:, 1], [edges, edges])[0]
    square = np.arange(4 * a_side) // a_side
    dark = (square[:, None] + square[None, :]) % 2 == 0
    return counts[dark], len(points) - counts[dark].sum()


def test_checkerboard_is_the_distribution_of_the_data_set(getkey):
    """Cell by cell, four a square: draws and data are equally likely to lie in each."""
    board = checkerboard()
    draws = once(lambda key: jax.vmap(board.sample)(jr.split(key, 65_536)))(getkey())
    for points in (draws, CheckerboardData().load().examples):
        counts, elsewhere = cells(points, 2)
        assert elsewhere == 0 and len(counts) == 32
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_exact_map_carries_noise_to_the_board():
    """Samples lie in the dark squares, evenly, and are the same whatever number is asked for."""
    samples = _exact_samples("checkerboard", LinearPath(), MAP_ERROR_SAMPLES, 0)
    assert cells(samples, 2)[1] < 0.01 * len(samples)
    assert scipy.stats.chisquare(cells(samples, 2)[0]).pvalue > 1e-3
    assert np.array_equal(_exact_samples("checkerboard", LinearPath(), 300, 0), samples[:300])


def test_map_error_is_the_distance_of_the_first_samples_and_solved_once():
    exact_map = OracleMap(checkerboard(), LinearPath())
    drawing = drawing_of(SAMPLERS["pushforward"], exact_map.path)
    exact = _exact_samples("checkerboard", LinearPath(), MAP_ERROR_SAMPLES, 0)
    samples = np.concatenate([exact + np.float32([0.3, 0.4]), np.full((500, 2), 9.0)])
    solved = _exact_samples.cache_info().misses
    drawn = Drawn(len(samples), 1, None, lambda index: samples[index])
    error = map_error(drawn, drawing, exact_map, "checkerboard", 0)["map_error"]
    assert np.isclose(error, 0.5, rtol=1e-5)
    assert _exact_samples.cache_info().misses == solved


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises((ValueError, TypeError), match="low"):
        BoxMixture(jnp.ones(2) / 2, jnp.zeros((3, 2)), jnp.ones((3, 2)))
