"""The problems with closed forms and their exact flow maps, checked against each other's routes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats

from core.flow.path import PATHS, EDMPath, LinearPath, TrigPath, VPPath
from core.flow.solve import AdaptiveSteps
from core.oracle import (
    GaussianMixture,
    GaussianProblem,
    OracleMap,
    ProductMixture,
    SinglePoint,
    eight_gaussians,
    finite_data,
    mixture_1d,
)
from tests.compiling import once

TIGHT = AdaptiveSteps(solver="dopri8", rtol=1e-11, atol=1e-11)
CURVED = [0.3, 0.5, 0.2], [-1.0, 0.4, 1.5], [0.2, 0.15, 0.4]


def gaussian():
    covariance = jnp.array([[0.5, 0.2], [0.2, 1.3]])
    return GaussianProblem(jnp.array([1.0, -0.5]), covariance)


def curved():
    return mixture_1d(*(jnp.array(values) for values in CURVED))


def mixture():
    means = jnp.array([[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]])
    return GaussianMixture(jnp.array([0.5, 0.3, 0.2]), means, jnp.array([0.3, 0.5, 0.2]))


def three_points():
    return finite_data(jnp.array([[1.0, 0.5], [-1.0, 0.3], [0.2, -1.2]]))


def single_point():
    return SinglePoint(jnp.array([0.7, -0.3]))


PROBLEMS = {
    "gaussian": gaussian,
    "curved": curved,
    "mixture": mixture,
    "three-points": three_points,
    "single-point": single_point,
}
NOISE_STD = {"linear": 1.0, "trig": 0.5, "cosine": 1.0, "vp": 0.8, "edm": 1.0}
GRID = [(problem, path) for problem in PROBLEMS for path in ("trig", "vp")]


def setting(problem, path):
    """The two by name, the path with the noise std that is tested on it."""
    return PROBLEMS[problem](), PATHS[path](noise_std=NOISE_STD[path])


def time_at(path, eta):
    return path.time_of_eta(jnp.asarray(eta))


def state(problem, path, t, key):
    key_data, key_noise = jr.split(key)
    return path.interpolate(problem.sample(key_data), path.noise(key_noise, problem.shape), t)


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


def jets(F, x, s, t, dx, ds, dt):
    """Row by row `V(x, s, t)` and its derivative along `(dx, ds, dt)`."""

    def jet(x, s, t, dx, ds, dt):
        return jax.jvp(F.average_velocity, (x, s, t), (dx, ds, dt))

    return jax.vmap(jet)(x, s, t, dx, ds, dt)


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


@pytest.mark.parametrize("path", [LinearPath(), VPPath(), EDMPath(noise_std=0.5)])
def test_one_component_is_a_gaussian(path, getkey, x64):
    @once
    def both(key):
        one = mixture_1d(jnp.ones(1), jnp.array([0.7]), jnp.array([0.4]))
        same = GaussianProblem(jnp.array([0.7]), jnp.array([[0.16]]))
        s, t = time_at(path, 3.0), time_at(path, 0.1)
        x = state(one, path, s, key)
        return [OracleMap(p, path).average_velocity(x, s, t) for p in (one, same)]

    np.testing.assert_allclose(*both(getkey()), rtol=1e-12)


def test_coordinates_of_a_product_do_not_mix(getkey, x64):
    """A (2, 3) product equals six maps on the line."""
    shape, path = (2, 3, 4), TrigPath()

    @once
    def both(key):
        keys = jr.split(key, 4)
        weights = jax.nn.softmax(jr.normal(keys[0], shape))
        means, stds = jr.normal(keys[1], shape), 0.2 + jr.uniform(keys[2], shape)
        problem = ProductMixture(weights, means, stds)
        s, t = jnp.asarray(1.3), jnp.asarray(0.2)
        x = state(problem, path, s, keys[3])
        lines = ProductMixture(*(leaf.reshape(6, 1, 4) for leaf in (weights, means, stds)))

        def on_its_own(line, x):
            return OracleMap(line, path).average_velocity(x, s, t)

        alone = eqx.filter_vmap(on_its_own)(lines, x.reshape(6, 1))
        return OracleMap(problem, path).average_velocity(x, s, t), alone.reshape(2, 3)

    np.testing.assert_allclose(*both(getkey()), rtol=1e-10)


@pytest.mark.parametrize(
    "problem, path", [("gaussian", "linear"), ("curved", "trig"), ("mixture", "linear")]
)
def test_data_end_is_finite(problem, path, getkey):
    """At `sigma = 0` a density has E[x_0 | x] = x and E[z | x] = 0."""

    @once
    def run(key):
        data, along = setting(problem, path)
        key_start, key_end = jr.split(key)
        x, t = data.sample(key_start), jnp.zeros(())
        v = data.velocity(along, x, t)
        _, D_v = jax.jvp(lambda x, t: data.velocity(along, x, t), (x, t), (v, jnp.ones(())))
        F, end = OracleMap(data, along), jnp.asarray(along.t_max)
        sources, targets = jnp.stack([t, t, end]), jnp.stack([t, end, t])
        starts = jnp.stack([x, x, data.sample(key_end)])
        V, dV = jets(F, starts, sources, targets, jnp.ones_like(starts), jnp.ones(3), jnp.ones(3))
        return v, along.d_alpha(0.0) * x, V, dV, D_v

    v, expected, *derivatives = run(getkey())
    np.testing.assert_allclose(v, expected, atol=1e-6)
    np.testing.assert_allclose(derivatives[0][0], v, atol=1e-6)
    assert all(np.isfinite(values).all() for values in derivatives)


@pytest.mark.parametrize("problem", ["three-points", "single-point"])
def test_points_of_mass_do_not_give_nan_at_the_data_end(problem, getkey):
    @once
    def run(key):
        data = PROBLEMS[problem]()
        return data.posterior_means(LinearPath(), data.sample(key), jnp.zeros(()))

    assert all(np.isfinite(value).all() for value in run(getkey()))


def test_trajectories_of_a_data_set_end_on_its_points(normal, x64):
    problem, path = three_points(), EDMPath()

    @once
    @jax.vmap
    def run(x):
        return OracleMap(problem, path, TIGHT)(x, jnp.asarray(80.0), jnp.asarray(0.002))

    end, points = run(80.0 * normal(8, 2)), np.asarray(problem.means)
    distance = np.linalg.norm(end[:, None] - points[None], axis=-1)
    assert np.all(np.min(distance, axis=1) < 0.02)


def test_a_single_point_is_reached_on_straight_rays(normal):
    @once
    def run(x, s, t):
        F = OracleMap(single_point(), LinearPath())
        return jax.vmap(F.average_velocity, (None, None, 0))(x, s, t)

    x = normal(2)
    V = run(x, np.float32(0.8), np.float32([0.0, 0.3, 0.8, 1.0]))
    expected = np.broadcast_to((x - np.float32([0.7, -0.3])) / 0.8, (4, 2))
    np.testing.assert_allclose(V, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("problem", ["curved", "mixture"])
def test_float32_agrees_with_float64(problem, rng, getkey):
    s, t = np.float32(0.05 + 0.9 * rng.random((2, 32)))

    @once
    def run(key, s, t):
        data, path = PROBLEMS[problem](), LinearPath()
        x = jax.vmap(lambda key, s: state(data, path, s, key))(jr.split(key, 32), s)
        return x, jax.vmap(OracleMap(data, path).average_velocity)(x, s, t)

    x, V = run(getkey(), s, t)
    assert V.dtype == np.float32
    with jax.enable_x64(True):
        F = OracleMap(PROBLEMS[problem](), LinearPath(), TIGHT)
        exact = once(jax.vmap(F.average_velocity))(*(a.astype(np.float64) for a in (x, s, t)))
    np.testing.assert_allclose(V, exact, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("problem", ["gaussian", "curved"])
def test_closed_forms_have_reverse_mode_too(problem, getkey, x64):
    @once
    def both(key):
        data, path = PROBLEMS[problem](), LinearPath()
        F = OracleMap(data, path)
        s, t = jnp.asarray(0.8), jnp.asarray(0.3)
        x = state(data, path, s, key)
        return [jac(F.average_velocity, (0, 1, 2))(x, s, t) for jac in (jax.jacfwd, jax.jacrev)]

    for a, b in zip(*both(getkey())):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_eight_gaussians_lie_on_their_circle(getkey):
    problem = eight_gaussians()
    assert problem.shape == (2,)
    draws = once(lambda key: jax.vmap(problem.sample)(jr.split(key, 4096)))(getkey())
    centres = np.asarray(problem.means)
    distance = np.linalg.norm(draws[:, None] - centres[None], axis=-1)
    assert np.mean(np.min(distance, axis=1) < 0.6) > 0.98
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 2.0, rtol=1e-5)


def test_shapes_that_do_not_fit_are_refused():
    for make, arguments in (
        (GaussianProblem, (jnp.zeros(2), jnp.eye(3))),
        (GaussianMixture, (jnp.ones(2) / 2, jnp.zeros((3, 2)), jnp.ones(2))),
        (mixture_1d, (jnp.ones(2) / 2, jnp.zeros(3), jnp.ones(2))),
    ):
        with pytest.raises((ValueError, TypeError), match="covariance|means"):
            make(*arguments)
