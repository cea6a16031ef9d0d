"""The problems with closed forms and their exact flow maps, checked against each other's routes."""

import functools

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
def test_posterior_means_follow_from_the_density(problem, path, getkey, x64):
    """Tweedie: E[z | x] = -noise_std^2 sigma grad log p_t(x), and x = alpha x_0 + sigma z."""
    problem, path = setting(problem, path)
    t = time_at(path, 0.6)
    x = state(problem, path, t, getkey())
    score = jax.grad(lambda x: problem.log_prob(path, x, t))(x)
    z = -(path.noise_std**2) * path.sigma(t) * score
    assert jnp.allclose(problem.noise_mean(path, x, t), z, rtol=1e-10, atol=1e-12)
    x_0 = (x - path.sigma(t) * z) / path.alpha(t)
    assert jnp.allclose(problem.x_0_mean(path, x, t), x_0, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("problem, path", GRID)
def test_density_is_carried_by_the_velocity(problem, path, getkey, x64):
    """The continuity equation: d log p / dt = -div v - v . grad log p."""
    problem, path = setting(problem, path)
    t = time_at(path, 0.6)
    x = state(problem, path, t, getkey())
    v = problem.velocity(path, x, t)
    divergence = jnp.trace(jax.jacfwd(lambda x: problem.velocity(path, x, t))(x))
    score, rate = jax.grad(lambda x, t: problem.log_prob(path, x, t), (0, 1))(x, t)
    assert jnp.allclose(rate, -divergence - v @ score, rtol=1e-10, atol=1e-12)


def test_densities_agree_with_scipy(getkey, x64):
    x, t, path = jr.normal(getkey(), (2,)), 0.3, LinearPath(noise_std=0.5)
    m, S = np.array([1.0, -0.5]), np.array([[0.5, 0.2], [0.2, 1.3]])
    marginal = scipy.stats.multivariate_normal(0.7 * m, 0.49 * S + 0.0225 * np.eye(2))
    assert jnp.allclose(gaussian().log_prob(path, x, t), marginal.logpdf(x))
    weights, means, stds = CURVED
    spreads = np.hypot(0.7 * np.array(stds), 0.15)
    pdf = weights @ scipy.stats.norm.pdf(x[0], 0.7 * np.array(means), spreads)
    assert jnp.allclose(curved().log_prob(path, x[:1], t), np.log(pdf))
    problem = mixture()
    pdf = sum(
        w * scipy.stats.multivariate_normal(0.7 * m, 0.49 * c**2 + 0.0225).pdf(x)
        for w, m, c in zip(problem.weights, problem.means, problem.stds)
    )
    assert jnp.allclose(problem.log_prob(path, x, t), np.log(pdf))


@pytest.mark.parametrize("problem", PROBLEMS)
def test_samples_have_the_moments_of_the_density(problem, getkey):
    """At pure data noise 0.1: mean and covariance of draws against the score's (Stein)."""
    problem, path, t = PROBLEMS[problem](), EDMPath(), 0.1
    keys = jr.split(getkey(), 20_000)
    x = jax.vmap(lambda key: state(problem, path, t, key))(keys)
    score = jax.vmap(jax.grad(lambda x: problem.log_prob(path, x, t)))(x)
    assert jnp.allclose(jnp.mean(score, axis=0), 0.0, atol=5 * float(jnp.std(score)) / 20_000**0.5)
    stein = jnp.einsum("ni,nj->ij", score, x) / len(x)  # E[score x^T] = -I
    spread = jnp.std(score[:, :, None] * x[:, None, :], axis=0)
    assert jnp.all(jnp.abs(stein + jnp.eye(x.shape[1])) < 5 * spread / 20_000**0.5)


@pytest.mark.parametrize(
    "problem, path", [*((name, "trig") for name in PROBLEMS), ("mixture", "edm")]
)
def test_posterior_samples_have_the_posterior_moments(problem, path, getkey):
    """Means against `x_0_mean`, covariances against its Jacobian (second-order Tweedie)."""
    problem, path = setting(problem, path)
    t, n = time_at(path, 0.6), 20_000
    x = state(problem, path, t, getkey())
    draws = jax.vmap(lambda key: problem.sample_posterior(path, key, x, t))(jr.split(getkey(), n))
    mean = problem.x_0_mean(path, x, t)
    error = jnp.mean(draws, axis=0) - mean
    assert jnp.all(jnp.abs(error) <= 4.5 * jnp.std(draws, axis=0) / n**0.5 + 1e-6)
    jacobian = jax.jacfwd(lambda x: problem.x_0_mean(path, x, t))(x)
    expected = (path.noise_std * path.sigma(t)) ** 2 / path.alpha(t) * jacobian
    centred = draws - mean[None]
    products = centred[:, :, None] * centred[:, None, :]
    error = jnp.mean(products, axis=0) - expected
    assert jnp.all(jnp.abs(error) <= 4.5 * jnp.std(products, axis=0) / n**0.5 + 1e-6)


@eqx.filter_jit
def jets(F, x, s, t, dx, ds, dt):
    """Row by row `V(x, s, t)` and its derivative along `(dx, ds, dt)`."""

    def jet(x, s, t, dx, ds, dt):
        return jax.jvp(F.average_velocity, (x, s, t), (dx, ds, dt))

    return jax.vmap(jet)(x, s, t, dx, ds, dt)


MAPS = [("curved", path) for path in PATHS] + [("gaussian", "linear"), ("gaussian", "edm")]
MAPS += [("single-point", "vp"), ("mixture", "vp"), ("three-points", "edm")]


@pytest.mark.parametrize("problem, path", MAPS)
def test_identities_of_a_flow_map(problem, path, getkey, x64):
    problem, path = setting(problem, path)
    F = OracleMap(problem, path, TIGHT)
    s, u, t = (time_at(path, eta) for eta in (2.0, 0.7, 0.15))
    x = state(problem, path, s, getkey())
    v = problem.velocity(path, x, s)
    close = functools.partial(jnp.allclose, rtol=1e-7, atol=1e-8)

    along = jnp.array([0.0, 1.0, 1.0, 0.0, 1.0])  # rows: target moves, or source with its state
    targets = jnp.stack([t, t, u, s, s])
    V, dV = jets(F, _rows(x), _rows(s), targets, along[:, None] * v[None], along, 1 - along)
    end, middle = x + (t - s) * V[0], x + (u - s) * V[2]
    assert close(V[0] + (t - s) * dV[0], problem.velocity(path, end, t)), "Lagrangian"
    assert close(v - V[1] + (t - s) * dV[1], 0.0), "Eulerian, and MeanFlow"

    D_v = jax.jvp(lambda x, s: problem.velocity(path, x, s), (x, s), (v, jnp.ones(())))[1]
    assert close(V[3], v) and close(F.velocity(x, s), v), "diagonal"
    assert close(dV[3], D_v / 2) and close(dV[4], D_v / 2), "derivatives on the diagonal"

    starts, sources = jnp.stack([middle, end, x, x, x]), jnp.stack([u, t, s, s, s])
    targets = jnp.stack([t, s, s, s, s])
    V, _ = jets(F, starts, sources, targets, along[:, None] * v[None], along, 1 - along)
    assert close(middle + (t - u) * V[0], end), "semigroup"
    assert close(end + (s - t) * V[1], x), "inverse"


def _rows(value):
    return jnp.broadcast_to(value, (5, *value.shape))


@pytest.mark.parametrize("problem, path", [("curved", "vp"), ("curved", "edm"), ("gaussian", "vp")])
def test_closed_form_agrees_with_a_fine_solve(problem, path, getkey, x64):
    """Sixteen states each way, from near noise to near data and back, by SciPy's DOP853."""
    problem, path = setting(problem, path)
    noisy, clean = time_at(path, 5.0), time_at(path, 0.1)
    keys = jr.split(getkey(), 16)
    velocity = jax.jit(jax.vmap(lambda x, t: problem.velocity(path, x, t), (0, None)))
    for s, t in ((noisy, clean), (clean, noisy)):
        x = jax.vmap(lambda key, s=s: state(problem, path, s, key))(keys)

        def rate(t, y, shape=x.shape):
            return np.asarray(velocity(y.reshape(shape), jnp.asarray(t))).ravel()

        solution = scipy.integrate.solve_ivp(
            rate, (float(s), float(t)), np.ravel(x), method="DOP853", rtol=1e-12, atol=1e-12
        )
        got = jax.vmap(OracleMap(problem, path), (0, None, None))(x, s, t)
        assert jnp.allclose(got.ravel(), solution.y[:, -1], rtol=1e-8, atol=1e-9)


def test_mixture_map_is_exact_across_the_switch_at_small_gaps(getkey, x64):
    """Gaps from 1e-8 to 0.3, on both sides of where Runge-Kutta steps replace the quotient."""
    problem, path, s = curved(), LinearPath(), jnp.asarray(0.4)
    gaps = jnp.geomspace(1e-8, 0.3, 40)
    x = state(problem, path, s, getkey())
    same = GaussianMixture(problem.weights[0], problem.means[0][:, None], problem.stds[0])
    rows = jnp.tile(x, (40, 1)), jnp.full(40, s), s - gaps, jnp.zeros((40, 1))
    (V, dV_dt), (V_exact, dV_dt_exact) = (
        jets(OracleMap(p, path, TIGHT), *rows, jnp.zeros(40), jnp.ones(40)) for p in (problem, same)
    )
    assert jnp.allclose(V, V_exact, rtol=1e-9, atol=1e-9)
    assert jnp.allclose(dV_dt, dV_dt_exact, rtol=1e-6, atol=1e-6)


def test_mixture_map_matches_probabilities_far_into_the_tails(x64):
    """To 30 standard deviations, against SciPy's log tails and root finder."""
    F = jax.vmap(OracleMap(curved(), LinearPath()), (0, None, None))
    weights, means, stds = (np.array(values) for values in CURVED)
    for x in (-30.0, -3.0, -0.3, 0.4, 8.0, 30.0):
        tail = scipy.stats.norm.logsf if x > 0 else scipy.stats.norm.logcdf

        def excess(y, tail=tail, x=x):
            return scipy.special.logsumexp(np.log(weights) + tail((y - means) / stds)) - tail(x)

        expected = scipy.optimize.brentq(excess, -20.0, 20.0, xtol=1e-13, rtol=1e-14)
        got = F(jnp.array([[x]]), jnp.asarray(1.0), jnp.asarray(0.0))
        assert jnp.allclose(got, expected, rtol=1e-9), x


def test_one_component_is_a_gaussian(getkey, x64):
    one = mixture_1d(jnp.ones(1), jnp.array([0.7]), jnp.array([0.4]))
    same = GaussianProblem(jnp.array([0.7]), jnp.array([[0.16]]))
    for path in (LinearPath(), VPPath(), EDMPath(noise_std=0.5)):
        s, t = time_at(path, 3.0), time_at(path, 0.1)
        x = state(one, path, s, getkey())
        V, expected = (OracleMap(p, path).average_velocity(x, s, t) for p in (one, same))
        assert jnp.allclose(V, expected, rtol=1e-12)


def test_coordinates_of_a_product_do_not_mix(getkey, x64):
    """A (2, 3) product equals six maps on the line."""
    shape, path = (2, 3, 4), TrigPath()
    weights = jax.nn.softmax(jr.normal(getkey(), shape))
    means, stds = jr.normal(getkey(), shape), 0.2 + jr.uniform(getkey(), shape)
    problem = ProductMixture(weights, means, stds)
    s, t = jnp.asarray(1.3), jnp.asarray(0.2)
    x = state(problem, path, s, getkey())
    V = OracleMap(problem, path).average_velocity(x, s, t)
    lines = ProductMixture(*(leaf.reshape(6, 1, 4) for leaf in (weights, means, stds)))

    def on_its_own(line, x):
        return OracleMap(line, path).average_velocity(x, s, t)

    alone = eqx.filter_vmap(on_its_own)(lines, x.reshape(6, 1))
    assert jnp.allclose(V, alone.reshape(2, 3), rtol=1e-10)


@pytest.mark.parametrize(
    "problem, path", [("gaussian", "linear"), ("curved", "trig"), ("mixture", "linear")]
)
def test_data_end_is_finite(problem, path, getkey):
    """At `sigma = 0` a density has E[x_0 | x] = x and E[z | x] = 0."""
    problem, path = setting(problem, path)
    x, t = problem.sample(getkey()), jnp.zeros(())
    v = problem.velocity(path, x, t)
    assert jnp.allclose(v, path.d_alpha(0.0) * x, atol=1e-6)
    _, D_v = jax.jvp(lambda x, t: problem.velocity(path, x, t), (x, t), (v, jnp.ones(())))
    F, end = OracleMap(problem, path), jnp.asarray(path.t_max)
    sources, targets = jnp.stack([t, t, end]), jnp.stack([t, end, t])
    x = jnp.stack([x, x, problem.sample(getkey())])
    V, dV = jets(F, x, sources, targets, jnp.ones_like(x), jnp.ones(3), jnp.ones(3))
    assert jnp.allclose(V[0], v, atol=1e-6)
    assert jnp.all(jnp.isfinite(V)) and jnp.all(jnp.isfinite(dV)) and jnp.all(jnp.isfinite(D_v))


@pytest.mark.parametrize("problem", ["three-points", "single-point"])
def test_points_of_mass_do_not_give_nan_at_the_data_end(problem, getkey):
    problem = PROBLEMS[problem]()
    x = problem.sample(getkey())
    for value in problem.posterior_means(LinearPath(), x, jnp.zeros(())):
        assert jnp.all(jnp.isfinite(value))


def test_trajectories_of_a_data_set_end_on_its_points(getkey, x64):
    problem, path = three_points(), EDMPath()
    F = OracleMap(problem, path, TIGHT)
    x = 80.0 * jr.normal(getkey(), (8, 2))
    end = jax.vmap(F, (0, None, None))(x, jnp.asarray(80.0), jnp.asarray(0.002))
    distance = jnp.linalg.norm(end[:, None] - problem.means[None], axis=-1)
    assert jnp.all(jnp.min(distance, axis=1) < 0.02)


def test_a_single_point_is_reached_on_straight_rays(getkey):
    problem = single_point()
    x, s = jr.normal(getkey(), (2,)), jnp.asarray(0.8)
    for t in (0.0, 0.3, 0.8, 1.0):
        V = OracleMap(problem, LinearPath()).average_velocity(x, s, jnp.asarray(t))
        assert jnp.allclose(V, (x - problem.point) / s, rtol=1e-5)


@pytest.mark.parametrize("problem", ["curved", "mixture"])
def test_float32_agrees_with_float64(problem, getkey):
    maker, path = PROBLEMS[problem], LinearPath()
    keys = jr.split(getkey(), 32)
    s, t = 0.05 + 0.9 * jr.uniform(getkey(), (2, 32))
    x = jax.vmap(lambda key, s: state(maker(), path, s, key))(keys, s)
    V = jax.vmap(OracleMap(maker(), path).average_velocity)(x, s, t)
    assert V.dtype == jnp.float32
    with jax.enable_x64(True):
        x, s, t = (jnp.asarray(np.asarray(a), jnp.float64) for a in (x, s, t))
        exact = jax.vmap(OracleMap(maker(), path, TIGHT).average_velocity)(x, s, t)
    assert np.allclose(V, exact, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("problem", ["gaussian", "curved"])
def test_closed_forms_have_reverse_mode_too(problem, getkey, x64):
    problem, path = PROBLEMS[problem](), LinearPath()
    F = OracleMap(problem, path)
    s, t = jnp.asarray(0.8), jnp.asarray(0.3)
    x = state(problem, path, s, getkey())
    forward = jax.jit(jax.jacfwd(F.average_velocity, (0, 1, 2)))(x, s, t)
    reverse = jax.jit(jax.jacrev(F.average_velocity, (0, 1, 2)))(x, s, t)
    for a, b in zip(forward, reverse):
        assert jnp.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_eight_gaussians_lie_on_their_circle(getkey):
    problem = eight_gaussians()
    assert problem.shape == (2,)
    draws = jax.vmap(problem.sample)(jr.split(getkey(), 4096))
    distance = jnp.linalg.norm(draws[:, None] - problem.means[None], axis=-1)
    assert jnp.mean(jnp.min(distance, axis=1) < 0.6) > 0.98
    assert jnp.allclose(jnp.linalg.norm(problem.means, axis=1), 2.0)


def test_shapes_that_do_not_fit_are_refused():
    for make, arguments in (
        (GaussianProblem, (jnp.zeros(2), jnp.eye(3))),
        (GaussianMixture, (jnp.ones(2) / 2, jnp.zeros((3, 2)), jnp.ones(2))),
        (mixture_1d, (jnp.ones(2) / 2, jnp.zeros(3), jnp.ones(2))),
    ):
        with pytest.raises((ValueError, TypeError), match="covariance|means"):
            make(*arguments)
