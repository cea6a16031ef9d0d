"""Every parameterisation reproduces the exact map when it is fed the exact raw field."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from core.flow.flow_map import AverageVelocityMap, ConsistencyMap, EndpointMap, RotationMap
from core.flow.network import DenoisedNetwork
from core.flow.path import PATHS
from core.oracle import GaussianProblem, OracleMap

TIMES = [(0.9, 0.1), (0.7, 0.65), (0.3, 0.8), (0.5, 0.5)]


class Field(eqx.Module):
    """A raw network given by a function of `(x, s, t)` in the path's own times."""

    f: object
    path: object

    def __call__(self, x, s, t, cond=None):
        del cond
        return self.f(x, self.path.time_of_unit(s), self.path.time_of_unit(t))


@pytest.fixture(params=sorted(PATHS))
def path(request, x64):
    return PATHS[request.param]()


@pytest.fixture
def exact(path):
    mean, covariance = jnp.array([0.4, -0.7]), jnp.array([[0.5, 0.2], [0.2, 0.9]])
    return OracleMap(GaussianProblem(mean, covariance), path)


def times_of(path):
    return [
        (path.time_of_unit(jnp.asarray(s)), path.time_of_unit(jnp.asarray(t))) for s, t in TIMES
    ]


def endpoint_field(exact, path):
    """`g` of the DDIM form, solved from the exact map; the denoiser on the diagonal."""

    def g(x, s, t):
        ratio = path.sigma(t) / path.sigma(s)
        if float(s) == float(t):
            return exact.problem.x_0_mean(path, x, s)
        return (exact(x, s, t) - ratio * x) / (path.alpha(t) - path.alpha(s) * ratio)

    return g


def test_endpoint_map_reproduces_the_exact_map(path, exact, getkey):
    flow_map = EndpointMap(Field(endpoint_field(exact, path), path), path)
    for s, t in times_of(path):
        x = jr.normal(getkey(), (2,))
        assert jnp.allclose(flow_map(x, s, t), exact(x, s, t), rtol=1e-7, atol=1e-9)
        v = exact.velocity(x, s)
        assert jnp.allclose(flow_map.velocity(x, s), v, rtol=1e-6, atol=1e-8)


def test_rotation_map_reproduces_the_exact_map(path, exact, getkey):
    d = 0.7

    def N(y, s, t):
        r = path.alpha(s) ** 2 + path.sigma(s) ** 2
        x = y * d * jnp.sqrt(r)
        A = (path.alpha(s) * path.alpha(t) + path.sigma(s) * path.sigma(t)) / r
        B = -(path.alpha(t) * path.sigma(s) - path.alpha(s) * path.sigma(t)) / jnp.sqrt(r) * d
        return (exact(x, s, t) - A * x) / B

    flow_map = RotationMap(Field(N, path), path, d)
    for s, t in times_of(path)[:3]:
        x = jr.normal(getkey(), (2,))
        assert jnp.allclose(flow_map(x, s, t), exact(x, s, t), rtol=1e-7, atol=1e-9)


def test_rotation_map_on_the_trigonometric_path_is_trigflow(x64, getkey):
    path, d = PATHS["trig"](), 0.5
    x, out = jr.normal(getkey(), (3,)), jr.normal(getkey(), (3,))
    s, t = jnp.asarray(1.1), jnp.asarray(0.3)
    flow_map = RotationMap(lambda *_: out, path, d)
    expected = jnp.cos(s - t) * x - jnp.sin(s - t) * d * out
    assert jnp.allclose(flow_map(x, s, t), expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [AverageVelocityMap, EndpointMap, RotationMap])
def test_boundary_and_finite_derivatives_on_the_diagonal(kind, path, getkey):
    flow_map = kind(lambda x, s, t, cond: jnp.sin(3 * x) * (1 + s) - t, path)
    x, s = jr.normal(getkey(), (3,)), path.time_of_unit(jnp.asarray(0.6))
    assert jnp.array_equal(flow_map(x, s, s), x)
    for argument in (1, 2):
        derivative = jax.jacfwd(flow_map, argnums=argument)(x, s, s)
        assert jnp.isfinite(derivative).all()
    velocity = jax.jacfwd(flow_map, argnums=2)(x, s, s)
    assert jnp.allclose(velocity, flow_map.velocity(x, s), rtol=1e-9)


def test_consistency_map_is_the_edm_skip_form(x64, getkey):
    path, d = PATHS["edm"](), 0.5
    x, out, s = 3 * jr.normal(getkey(), (4,)), jr.normal(getkey(), (4,)), jnp.asarray(7.0)
    flow_map = ConsistencyMap(lambda *_: out, path, d)
    e = path.t_min
    c_skip = d**2 / ((s - e) ** 2 + d**2)
    c_out = d * (s - e) / jnp.sqrt(s**2 + d**2)
    assert jnp.allclose(flow_map(x, s, jnp.asarray(e)), c_skip * x + c_out * out, rtol=1e-10)
    assert not flow_map.two_times
    start = jnp.asarray(e)
    assert jnp.array_equal(flow_map(x, start, start), x)


def test_denoised_network_has_unit_variance_input_and_target(path, getkey):
    d, n = 0.5, 40_000
    s = path.time_of_unit(jnp.asarray(0.45))
    seen = []

    def net(y, s, t, cond):
        seen.append(y)
        return jnp.zeros_like(y)

    x_0, z = d * jr.normal(getkey(), (n,)), path.noise(getkey(), (n,))
    x = path.interpolate(x_0, z, s)
    unit = path.unit_time(s)
    skip = DenoisedNetwork(net, path, d)(x, unit, unit)
    assert jnp.std(seen[0]) == pytest.approx(1.0, abs=0.02)
    scale = DenoisedNetwork(lambda y, *_: jnp.ones_like(y), path, d)(x, unit, unit) - skip
    target = (x_0 - skip) / scale
    assert jnp.std(target) == pytest.approx(1.0, abs=0.02)


def test_batched_equals_single(path, exact, getkey):
    flow_map = EndpointMap(lambda x, s, t, cond: jnp.tanh(x) * (1 + s * t), path)
    x = jr.normal(getkey(), (5, 2))
    s = jax.vmap(path.time_of_unit)(jnp.linspace(0.5, 0.9, 5))
    t = jax.vmap(path.time_of_unit)(jnp.linspace(0.1, 0.4, 5))
    together = jax.vmap(flow_map)(x, s, t)
    alone = jnp.stack([flow_map(*one) for one in zip(x, s, t)])
    assert jnp.allclose(together, alone, rtol=1e-12)
