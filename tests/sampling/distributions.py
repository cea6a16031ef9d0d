"""Distributions of known samples, and how far samples are from them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.flow.path import PATHS, LinearPath
from core.oracle import GaussianProblem, OracleMap
from core.sampling import SAMPLERS, Drawing, generate, uniform_grid
from tests.sets import some

SOME_PATHS = some(PATHS, "trig", "vp")
"""One path that ends at the data and one that does not; the others are slow tests."""
N = 10_000
MEAN, COVARIANCE = np.array([0.5, -0.3]), np.array([[0.8, 0.3], [0.3, 0.5]])


def gaussian(path=LinearPath()):
    return OracleMap(GaussianProblem(jnp.asarray(MEAN), jnp.asarray(COVARIANCE)), path)


def largest_deviation(samples):
    """Of the mean and covariance from those of `gaussian`, in standard errors."""
    samples, n = np.asarray(samples, np.float64), len(samples)
    mean_error = np.sqrt(np.diag(COVARIANCE) / n)
    d = np.diag(COVARIANCE)
    covariance_error = np.sqrt((COVARIANCE**2 + np.outer(d, d)) / n)
    by_mean = np.abs(samples.mean(0) - MEAN) / mean_error
    by_covariance = np.abs(np.cov(samples.T) - COVARIANCE) / covariance_error
    return max(by_mean.max(), by_covariance.max())


def samples_of(flow_map, name, steps, n=N, key=jr.key(3)):
    drawing = Drawing(SAMPLERS[name], uniform_grid(flow_map.path, steps))
    return generate(flow_map, drawing, flow_map.problem.shape, n, key=key, batch=n).x


def ends(sampler, flow_map, starts, times, key=jr.key(5)):
    """Where the sampler takes each of the starts, with a key of its own each."""
    times = np.asarray(times, starts.dtype)
    return np.asarray(_ends(sampler, flow_map, starts, times, key))


@eqx.filter_jit
def _ends(sampler, flow_map, starts, times, key):
    def one(x, key):
        return sampler(flow_map, x, times, key=key).x

    return jax.vmap(one)(starts, jr.split(key, len(starts)))
