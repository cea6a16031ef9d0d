"""The problems with closed forms and their exact flow maps, checked against each other's routes."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from core.flow.path import PATHS, EDMPath, LinearPath
from core.oracle import (
    GaussianMixture,
    OracleMap,
)
from tests.compiling import once
from tests.oracle.problems import (
    CURVED,
    PROBLEMS,
    TIGHT,
    curved,
    gaussian,
    jets,
    mixture,
    setting,
    state,
    time_at,
)

GRID = [(problem, path) for problem in PROBLEMS for path in ("trig", "vp")]


@pytest.mark.parametrize("problem, path", GRID)
def test_posterior_means_and_the_density_s_change_follow_from_its_score(problem, path, getkey, x64):
    """Tweedie: E[z | x] = -noise_std^2 sigma grad log p_t(x), and x = alpha x_0 + sigma z.

    And the continuity equation: d log p / dt = -div v - v . grad log p.
    """

    @once
    def run(key):
        data, along = setting(problem, path)
        t = time_at(along, 0.6)
        x = state(data, along, t, key)
        score, rate = jax.grad(lambda x, t: data.log_prob(along, x, t), (0, 1))(x, t)
        z = -(along.noise_std**2) * along.sigma(t) * score
        x_0 = (x - along.sigma(t) * z) / along.alpha(t)
        v = data.velocity(along, x, t)
        divergence = jnp.trace(jax.jacfwd(lambda x: data.velocity(along, x, t))(x))
        return (
            (data.noise_mean(along, x, t), z),
            (data.x_0_mean(along, x, t), x_0),
            (rate, -divergence - v @ score),
        )

    for got, expected in run(getkey()):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_densities_agree_with_scipy(normal, x64):
    x, t = normal(2), 0.3

    @once
    def run(x):
        path = LinearPath(noise_std=0.5)
        by = (gaussian(), x), (curved(), x[:1]), (mixture(), x)
        return [problem.log_prob(path, point, t) for problem, point in by], mixture()

    (in_plane, on_line, of_three), problem = run(x)
    m, S = np.array([1.0, -0.5]), np.array([[0.5, 0.2], [0.2, 1.3]])
    marginal = scipy.stats.multivariate_normal(0.7 * m, 0.49 * S + 0.0225 * np.eye(2))
    np.testing.assert_allclose(in_plane, marginal.logpdf(x), rtol=1e-9)
    weights, means, stds = CURVED
    spreads = np.hypot(0.7 * np.array(stds), 0.15)
    pdf = weights @ scipy.stats.norm.pdf(x[0], 0.7 * np.array(means), spreads)
    np.testing.assert_allclose(on_line, np.log(pdf), rtol=1e-9)
    pdf = sum(
        w * scipy.stats.multivariate_normal(0.7 * m, 0.49 * c**2 + 0.0225).pdf(x)
        for w, m, c in zip(problem.weights, problem.means, problem.stds)
    )
    np.testing.assert_allclose(of_three, np.log(pdf), rtol=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_samples_have_the_moments_of_the_density(problem, getkey):
    """At pure data noise 0.1: mean and covariance of draws against the score's (Stein)."""
    n = 20_000

    @once
    def run(key):
        data, path, t = PROBLEMS[problem](), EDMPath(), 0.1
        x = jax.vmap(lambda key: state(data, path, t, key))(jr.split(key, n))
        return x, jax.vmap(jax.grad(lambda x: data.log_prob(path, x, t)))(x)

    x, score = (np.asarray(a, np.float64) for a in run(getkey()))
    assert np.all(np.abs(score.mean(axis=0)) < 5 * score.std() / n**0.5)
    products = score[:, :, None] * x[:, None, :]
    stein = products.mean(axis=0)  # E[score x^T] = -I
    assert np.all(np.abs(stein + np.eye(x.shape[1])) < 5 * products.std(axis=0) / n**0.5)


@pytest.mark.parametrize(
    "problem, path", [*((name, "trig") for name in PROBLEMS), ("mixture", "edm")]
)
def test_posterior_samples_have_the_posterior_moments(problem, path, getkey):
    """Means against `x_0_mean`, covariances against its Jacobian (second-order Tweedie)."""
    n = 20_000

    @once
    def run(key):
        data, along = setting(problem, path)
        t, (key_state, key_draws) = time_at(along, 0.6), jr.split(key)
        x = state(data, along, t, key_state)
        keys = jr.split(key_draws, n)
        draws = jax.vmap(lambda key: data.sample_posterior(along, key, x, t))(keys)
        jacobian = jax.jacfwd(lambda x: data.x_0_mean(along, x, t))(x)
        expected = (along.noise_std * along.sigma(t)) ** 2 / along.alpha(t) * jacobian
        return draws, data.x_0_mean(along, x, t), expected

    draws, mean, expected = run(getkey())
    centred = np.asarray(draws, np.float64) - mean
    assert np.all(np.abs(centred.mean(axis=0)) <= 4.5 * draws.std(axis=0) / n**0.5 + 1e-6)
    products = centred[:, :, None] * centred[:, None, :]
    error = products.mean(axis=0) - expected
    assert np.all(np.abs(error) <= 4.5 * products.std(axis=0) / n**0.5 + 1e-6)


MAPS = [("curved", path) for path in PATHS] + [("gaussian", "linear"), ("gaussian", "edm")]
MAPS += [("single-point", "vp"), ("mixture", "vp"), ("three-points", "edm")]
QUICK_MAPS = [("curved", "trig"), ("gaussian", "edm"), ("single-point", "vp"), ("mixture", "vp")]


@pytest.mark.parametrize(
    "problem, path",
    [pytest.param(*on, marks=[] if on in QUICK_MAPS else pytest.mark.slow) for on in MAPS],
)
def test_identities_of_a_flow_map(problem, path, getkey, x64):
    @once
    def run(key):
        data, along = setting(problem, path)
        F = OracleMap(data, along, TIGHT)
        s, u, t = (time_at(along, eta) for eta in (2.0, 0.7, 0.15))
        x = state(data, along, s, key)
        v = data.velocity(along, x, s)

        # Rows: the target moves, or the source with its state.
        moves = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])
        direction, targets = moves[:, None] * v[None], jnp.stack([t, t, u, s, s])

        def of(starts, sources, targets):
            return jets(F, starts, sources, targets, direction, moves, 1 - moves)

        V, dV = of(_rows(x), _rows(s), targets)
        end, middle = x + (t - s) * V[0], x + (u - s) * V[2]
        D_v = jax.jvp(lambda x, s: data.velocity(along, x, s), (x, s), (v, jnp.ones(())))[1]
        back, _ = of(
            jnp.stack([middle, end, x, x, x]),
            jnp.stack([u, t, s, s, s]),
            jnp.stack([t, s, s, s, s]),
        )
        return {
            "Lagrangian": (V[0] + (t - s) * dV[0], data.velocity(along, end, t)),
            "Eulerian, and MeanFlow": (v - V[1] + (t - s) * dV[1], jnp.zeros_like(v)),
            "diagonal": (V[3], v),
            "velocity": (F.velocity(x, s), v),
            "derivative by the target on the diagonal": (dV[3], D_v / 2),
            "derivative by the source on the diagonal": (dV[4], D_v / 2),
            "semigroup": (middle + (t - u) * back[0], end),
            "inverse": (end + (s - t) * back[1], x),
        }

    for name, (got, expected) in run(getkey()).items():
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-8, err_msg=name)


def _rows(value):
    return jnp.broadcast_to(value, (5, *value.shape))


@pytest.mark.parametrize(
    "problem, path",
    [("gaussian", "vp"), ("curved", "vp"), pytest.param("curved", "edm", marks=pytest.mark.slow)],
)
def test_closed_form_agrees_with_a_fine_solve(problem, path, getkey, x64):
    """Sixteen states each way, from near noise to near data and back, by SciPy's DOP853."""
    data, along = setting(problem, path)
    velocity = once(jax.vmap(lambda x, t: data.velocity(along, x, t), (0, None)))

    @once
    def run(key):
        ends = time_at(along, 5.0), time_at(along, 0.1)
        found = []
        for s, t in (ends, ends[::-1]):
            x = jax.vmap(lambda key, s=s: state(data, along, s, key))(jr.split(key, 16))
            found.append((x, s, t, jax.vmap(OracleMap(data, along), (0, None, None))(x, s, t)))
        return found

    for x, s, t, got in run(getkey()):

        def rate(t, y, shape=x.shape):
            return velocity(y.reshape(shape), np.asarray(t)).ravel()

        solution = scipy.integrate.solve_ivp(
            rate, (float(s), float(t)), np.ravel(x), method="DOP853", rtol=1e-12, atol=1e-12
        )
        np.testing.assert_allclose(got.ravel(), solution.y[:, -1], rtol=1e-8, atol=1e-9)


def test_mixture_map_is_exact_across_the_switch_at_small_gaps(getkey, x64):
    """Gaps from 1e-8 to 0.3, on both sides of where Runge-Kutta steps replace the quotient."""

    @once
    def run(key, gaps):
        problem, path, s = curved(), LinearPath(), jnp.asarray(0.4)
        x = state(problem, path, s, key)
        same = GaussianMixture(problem.weights[0], problem.means[0][:, None], problem.stds[0])
        rows = jnp.tile(x, (40, 1)), jnp.full(40, s), s - gaps, jnp.zeros((40, 1))
        maps = (OracleMap(p, path, TIGHT) for p in (problem, same))
        return [jets(F, *rows, jnp.zeros(40), jnp.ones(40)) for F in maps]

    (V, dV_dt), (V_exact, dV_dt_exact) = run(getkey(), np.geomspace(1e-8, 0.3, 40))
    np.testing.assert_allclose(V, V_exact, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(dV_dt, dV_dt_exact, rtol=1e-6, atol=1e-6)


def test_mixture_map_matches_probabilities_far_into_the_tails(x64):
    """To 30 standard deviations, against SciPy's log tails and root finder."""
    points = np.array([-30.0, -3.0, -0.3, 0.4, 8.0, 30.0])

    @once
    @jax.vmap
    def jump(x):
        return OracleMap(curved(), LinearPath())(x, jnp.ones(()), jnp.zeros(()))

    weights, means, stds = (np.array(values) for values in CURVED)
    for x, got in zip(points, jump(points[:, None])):
        tail = scipy.stats.norm.logsf if x > 0 else scipy.stats.norm.logcdf

        def excess(y, tail=tail, x=x):
            return scipy.special.logsumexp(np.log(weights) + tail((y - means) / stds)) - tail(x)

        expected = scipy.optimize.brentq(excess, -20.0, 20.0, xtol=1e-13, rtol=1e-14)
        np.testing.assert_allclose(got, expected, rtol=1e-9, err_msg=str(x))
