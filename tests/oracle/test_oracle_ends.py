"""Exact flow maps at the ends of time, on points of mass, in float32 and in reverse mode."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.path import EDMPath, LinearPath, TrigPath, VPPath
from core.oracle import (
    GaussianMixture,
    GaussianProblem,
    OracleMap,
    ProductMixture,
    eight_gaussians,
    mixture_1d,
)
from tests.compiling import once
from tests.oracle.problems import (
    PROBLEMS,
    TIGHT,
    jets,
    setting,
    single_point,
    state,
    three_points,
    time_at,
)


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
