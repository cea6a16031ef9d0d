"""Every parameterisation reproduces the exact map when it is fed the exact raw field."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.flow_map import AverageVelocityMap, ConsistencyMap, EndpointMap, RotationMap
from core.flow.network import DenoisedNetwork
from core.flow.path import PATHS
from core.oracle import GaussianProblem, OracleMap
from tests.compiling import once

S, T = np.array([0.9, 0.7, 0.3, 0.5]), np.array([0.1, 0.65, 0.8, 0.5])


class Field(eqx.Module):
    """A raw network given by a function of `(x, s, t)` in the path's own times."""

    f: object
    path: object

    def __call__(self, x, s, t, cond=None):
        del cond
        return self.f(x, self.path.time_of_unit(s), self.path.time_of_unit(t))


FEW = ["trig", "vp"]
"""The paths of the quick tests: one that ends at noise alone, one that does not start at data."""


@pytest.fixture(params=[p if p in FEW else pytest.param(p, marks=pytest.mark.slow) for p in PATHS])
def path(request, x64):
    return PATHS[request.param]()


def exact_map(path):
    mean, covariance = jnp.array([0.4, -0.7]), jnp.array([[0.5, 0.2], [0.2, 0.9]])
    return OracleMap(GaussianProblem(mean, covariance), path)


def endpoint_field(exact, path):
    """`g` of the DDIM form, solved from the exact map; the denoiser on the diagonal."""

    def g(x, s, t):
        ratio = path.sigma(t) / path.sigma(s)
        gap = jnp.where(s == t, 1.0, path.alpha(t) - path.alpha(s) * ratio)
        jump = (exact(x, s, t) - ratio * x) / gap
        return jnp.where(s == t, exact.problem.x_0_mean(path, x, s), jump)

    return g


def rotation_field(exact, path, d):
    """`N` of the rotation, solved from the exact map off the diagonal."""

    def N(y, s, t):
        r = path.alpha(s) ** 2 + path.sigma(s) ** 2
        x = y * d * jnp.sqrt(r)
        A = (path.alpha(s) * path.alpha(t) + path.sigma(s) * path.sigma(t)) / r
        B = -(path.alpha(t) * path.sigma(s) - path.alpha(s) * path.sigma(t)) / jnp.sqrt(r) * d
        return (exact(x, s, t) - A * x) / B

    return N


def test_endpoint_and_rotation_map_reproduce_the_exact_map(path, normal):
    @once
    def run(x, s, t):
        s, t = jax.vmap(path.time_of_unit)(s), jax.vmap(path.time_of_unit)(t)
        exact = exact_map(path)
        endpoint = EndpointMap(Field(endpoint_field(exact, path), path), path)
        rotation = RotationMap(Field(rotation_field(exact, path, 0.7), path), path, 0.7)
        jumps = [jax.vmap(F)(x, s, t) for F in (exact, endpoint, rotation)]
        return jumps, [jax.vmap(F.velocity)(x, s) for F in (exact, endpoint)]

    (exact, endpoint, rotation), velocities = run(normal(4, 2), S, T)
    np.testing.assert_allclose(endpoint, exact, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(rotation[:3], exact[:3], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(velocities[1], velocities[0], rtol=1e-6, atol=1e-8)


def test_rotation_map_on_the_trigonometric_path_is_trigflow(x64, normal):
    path, d, s, t = PATHS["trig"](), 0.5, 1.1, 0.3
    x, out = normal(2, 3)
    jump = once(lambda x, out, s, t: RotationMap(lambda *_: out, path, d)(x, s, t))
    found = jump(x, out, np.array(s), np.array(t))
    np.testing.assert_allclose(found, np.cos(s - t) * x - np.sin(s - t) * d * out, rtol=1e-12)


def test_boundary_and_finite_derivatives_on_the_diagonal(path, normal):
    kinds = (AverageVelocityMap, EndpointMap, RotationMap)

    @once
    def run(x):
        s, found = path.time_of_unit(jnp.asarray(0.6)), []
        for kind in kinds:
            F = kind(lambda x, s, t, cond: jnp.sin(3 * x) * (1 + s) - t, path)
            found.append((F(x, s, s), *jax.jacfwd(F, argnums=(1, 2))(x, s, s), F.velocity(x, s)))
        return found

    x = normal(3)
    for jump, by_source, by_target, velocity in run(x):
        np.testing.assert_array_equal(jump, x)
        assert np.isfinite(by_source).all() and np.isfinite(by_target).all()
        np.testing.assert_allclose(by_target, velocity, rtol=1e-9)


def test_consistency_map_is_the_edm_skip_form(x64, normal):
    path, d, s = PATHS["edm"](), 0.5, 7.0
    x, out = normal(2, 4) * np.array([[3.0], [1.0]])
    e = path.t_min
    c_skip = d**2 / ((s - e) ** 2 + d**2)
    c_out = d * (s - e) / np.sqrt(s**2 + d**2)

    @once
    def jumps(x, out, s, e):
        flow_map = ConsistencyMap(lambda *_: out, path, d)
        assert not flow_map.two_times
        return flow_map(x, s, e), flow_map(x, e, e)

    there, still = jumps(x, out, np.array(s), np.array(e))
    np.testing.assert_allclose(there, c_skip * x + c_out * out, rtol=1e-10)
    np.testing.assert_array_equal(still, x)


def test_denoised_network_has_unit_variance_input_and_target(path, normal):
    d, n = 0.5, 40_000

    @once
    def run(x_0, unit_noise):
        s, seen = path.time_of_unit(jnp.asarray(0.45)), []

        def net(y, s, t, cond):
            seen.append(y)
            return jnp.zeros_like(y)

        x, unit = path.interpolate(x_0, path.noise_std * unit_noise, s), path.unit_time(s)
        skip = DenoisedNetwork(net, path, d)(x, unit, unit)
        scale = DenoisedNetwork(lambda y, *_: jnp.ones_like(y), path, d)(x, unit, unit) - skip
        return seen[0], (x_0 - skip) / scale

    seen, target = run(d * normal(n), normal(n))
    assert np.std(seen) == pytest.approx(1.0, abs=0.02)
    assert np.std(target) == pytest.approx(1.0, abs=0.02)


def test_batched_equals_single(path, normal):
    def flow_map(x, s, t):
        return EndpointMap(lambda x, s, t, cond: jnp.tanh(x) * (1 + s * t), path)(
            x, path.time_of_unit(s), path.time_of_unit(t)
        )

    rows = normal(5, 2), np.linspace(0.5, 0.9, 5), np.linspace(0.1, 0.4, 5)
    together, single = once(jax.vmap(flow_map))(*rows), once(flow_map)
    np.testing.assert_allclose(together, [single(*row) for row in zip(*rows)], rtol=1e-12)
