"""The problems, paths and derivatives on which the tests of the oracles agree."""

import jax
import jax.numpy as jnp
import jax.random as jr

from core.flow.path import PATHS
from core.flow.solve import AdaptiveSteps
from core.oracle import GaussianMixture, GaussianProblem, SinglePoint, finite_data, mixture_1d

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


def setting(problem, path):
    """The two by name, the path with the noise std that is tested on it."""
    return PROBLEMS[problem](), PATHS[path](noise_std=NOISE_STD[path])


def time_at(path, eta):
    return path.time_of_eta(jnp.asarray(eta))


def state(problem, path, t, key):
    key_data, key_noise = jr.split(key)
    return path.interpolate(problem.sample(key_data), path.noise(key_noise, problem.shape), t)


def jets(F, x, s, t, dx, ds, dt):
    """Row by row `V(x, s, t)` and its derivative along `(dx, ds, dt)`."""

    def jet(x, s, t, dx, ds, dt):
        return jax.jvp(F.average_velocity, (x, s, t), (dx, ds, dt))

    return jax.vmap(jet)(x, s, t, dx, ds, dt)
