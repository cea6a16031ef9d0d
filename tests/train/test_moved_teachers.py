"""Networks with clocks, predictions and paths of their own teach the exact velocity on any path.

The network is what such a one predicts of a Gaussian in closed form, written here in its own times.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.path import PATHS, LinearPath, VPPath
from core.flow.teacher import MapTeacher, Nearest
from core.layouts.edm import edm_map
from core.nets.native import flow_map_of, in_native_times
from core.oracle import GaussianProblem
from core.train.teachers import on_path
from tests.compiling import once

MEAN, VARIANCE = 0.4, 0.3
DDPM = "linear 0.0001 0.02 1000"
BETAS = np.linspace(1e-4, 0.02, 1000)


def clean(x, alpha, sigma):
    """`E[x_0 | alpha x_0 + sigma z = x]`."""
    gain = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
    return MEAN + gain * (x - alpha * MEAN)


def noise_of_step(x, k, _, cond=None):
    """DiT: the noise in a state of discrete diffusion, at its step (between steps `log sigma` is a
    line)."""
    signal = np.cumprod(1 - BETAS)
    ratios = jnp.asarray(np.log((1 - signal) / signal) / 2, x.dtype)
    ratio = jnp.exp(jnp.interp(k, jnp.arange(1000.0), ratios))
    alpha = 1 / jnp.sqrt(1 + ratio**2)
    sigma = ratio * alpha
    return (x - alpha * clean(x, alpha, sigma)) / sigma


def backward_velocity(x, tau, _, cond=None):
    """SiT: the velocity from noise to data, at the share of the data."""
    found = clean(x, tau, 1 - tau)
    z = (x - tau * found) / jnp.maximum(1 - tau, 1e-9)
    return found - z


def behind_edm(x, u, _, cond=None):
    """EDM: the network inside of the preconditioning, with data of standard deviation 0.5."""
    sigma, d = u / (1 - u), 0.5
    whole = jnp.sqrt(sigma**2 + d**2)
    state = whole * x
    return (clean(state, 1.0, sigma) - d**2 / whole**2 * state) / (sigma * d / whole)


def made(kind):
    if kind == "dit":
        return flow_map_of(in_native_times(noise_of_step, DDPM), VPPath(), DDPM, "noise")
    if kind == "sit":
        return flow_map_of(in_native_times(backward_velocity, "reversed"), LinearPath(), "reversed")
    return edm_map(behind_edm)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dit", "sit", "edm"])
def test_a_network_with_a_clock_of_its_own_teaches_the_exact_velocity_on_any_path(
    kind, x64, normal
):
    flow_map = made(kind)
    teachers = {name: on_path(make(), flow_map) for name, make in PATHS.items()}
    x, units = normal(9, 2), np.linspace(0.02, 0.98, 9)

    @once
    def run(problem, teachers, x, units):
        def each(teacher):
            path = teacher.path

            def one(x, u):
                t = path.time_of_unit(u)
                state = (path.alpha(t) + path.sigma(t)) * x
                return teacher.velocity(state, t), problem.velocity(path, state, t)

            return jax.vmap(one)(x, units)

        return {name: each(teacher) for name, teacher in teachers.items()}

    problem = GaussianProblem(jnp.full(2, MEAN), VARIANCE * jnp.eye(2))
    for name, (got, exact) in run(problem, teachers, x, units).items():
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-6, err_msg=name)


def test_outside_of_its_times_it_has_the_velocity_of_the_nearest(x64, normal):
    """So that it is off by about one over the largest noise-to-signal ratio, 80."""
    teacher = on_path(LinearPath(), made("edm"))
    assert isinstance(teacher, Nearest) and isinstance(teacher.field, MapTeacher)
    assert teacher.path == LinearPath() and 0.98 < teacher.field.path.t_max < 0.99

    @once
    def run(problem, teacher, x):
        ends = jnp.asarray([0.0, 0.0005, 0.002, 0.99, 0.999, 1.0])
        near = jnp.clip(ends, teacher.field.path.t_min, teacher.field.path.t_max)
        pair = jax.vmap(teacher.velocity, (None, 0))
        exact = jax.vmap(lambda t: problem.velocity(teacher.path, x, t))(ends)
        return pair(x, ends), pair(x, near), exact

    problem = GaussianProblem(jnp.full(2, MEAN), VARIANCE * jnp.eye(2))
    found, near, exact = run(problem, teacher, normal(2))
    np.testing.assert_allclose(found, near, rtol=1e-12)
    assert 1e-4 < np.abs(found - exact).max() < 0.05


def test_a_map_on_the_runs_own_path_is_taken_as_it_is():
    flow_map = made("sit")
    teacher = on_path(LinearPath(), flow_map)
    assert isinstance(teacher, MapTeacher) and teacher.flow_map is flow_map
