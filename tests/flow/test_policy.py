"""Policies: the posterior of a mixture along the way, and the maps that follow it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.conformance import policies
from core.errors import UserError
from core.flow.path import PATHS, LinearPath
from core.flow.policy import MixturePolicy, followed, of_policy, visited
from core.flow.policy_head import MixtureMap
from core.oracle import OracleMap
from core.oracle.product import ProductMixture
from tests.compiling import once
from tests.objectives.terms import TinyNet, Zero


@pytest.mark.long
@pytest.mark.parametrize("name", PATHS)
def test_the_policy_of_the_posterior_is_the_velocity_everywhere(name, normal, x64):
    """Of an unequal mixture, at states that no trajectory joins: at the source, on the way, at the
    data end, and on the way to noise."""
    path, problem = PATHS[name](), policies.plane()
    unit = {"edm": 80 / 81, "vp": 0.99}.get(name, 1.0)
    sources = np.array([unit, unit, 0.7, 0.7, 0.3, 0.05, 0.4])
    targets = np.array([unit, 0.2, 0.7, 0.1, 0.0, 0.01, 0.8])

    def run(x_s, x_u, sources, targets):
        def one(x_s, x_u, s, u):
            s, u = path.time_of_unit(s), path.time_of_unit(u)
            scale = path.alpha(u) + path.sigma(u)
            policy = policies.exact_map(problem, path).policy(x_s, s)
            x_u = jnp.where(u == s, x_s, scale * x_u)
            return policy.velocity(x_u, u), problem.velocity(path, x_u, u)

        return jax.vmap(one)(x_s, x_u, sources, targets)

    got, wanted = once(run)(normal(7, 2), normal(7, 2), sources, targets)
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_the_posterior_is_bayes_rule(x64):
    """The mixture times the ratio of Gaussians, by a sum over a fine grid of the line, with noise
    that is not of size one."""
    path, s, x_s = LinearPath(noise_std=0.7), 0.8, 0.4
    velocities, widths = np.array([-0.9, 0.3, 1.6]), np.array([0.4, 1.1, 0.2])
    times, states = np.array([0.8, 0.5, 0.05]), np.array([0.4, -0.3, 1.2])

    def run(times, states, velocities, widths):
        logits = jnp.log(jnp.array([0.2, 0.5, 0.3]))
        columns = [a[:, None] for a in (velocities, logits, jnp.log(widths))]
        policy = MixturePolicy.of(path, jnp.array([x_s]), jnp.asarray(s), *columns)
        return jax.vmap(lambda x, u: policy.means(x[None], u))(states, times)

    x_0, z = once(run)(times, states, velocities, widths)
    grid = np.linspace(-8, 8, 40_001)
    means, stds = x_s - s * velocities, widths * 0.7 * s
    prior = (np.array([0.2, 0.5, 0.3]) / stds) @ np.exp(
        -(((grid - means[:, None]) / stds[:, None]) ** 2) / 2
    )
    for u, x_u, mean, noise in zip(times, states, x_0, z, strict=True):
        logs = [
            -((x - (1 - t) * grid) ** 2) / (2 * (0.7 * t) ** 2) for x, t in ((x_u, u), (x_s, s))
        ]
        density = prior * np.exp(logs[0] - logs[1] - np.max(logs[0] - logs[1]))
        expected = np.sum(density * grid) / np.sum(density)
        np.testing.assert_allclose(mean, [expected], rtol=1e-6)
        np.testing.assert_allclose((1 - u) * mean + u * noise, [x_u], rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", ["linear", "trig", "edm"])
def test_jumps_of_the_exact_policy_tend_to_the_exact_map_by_the_square_of_the_step(
    name, normal, x64
):
    """From noise and from between, to the data end and to between; the same map is known in closed
    form on the line."""
    path, mixture = PATHS[name](), policies.line()
    exact = OracleMap(
        problem=ProductMixture(mixture.weights[None], mixture.means.T, mixture.stds[None]),
        path=path,
    )
    sources, targets = np.array([0.98, 0.98, 0.6, 0.5]), np.array([0.0, 0.5, 0.1, 0.499])

    def run(x, sources, targets):
        def one(x, s, t):
            s, t = path.time_of_unit(s), path.time_of_unit(t)
            policy = policies.exact_map(mixture, path).policy(path.sigma(s) * x, s)
            found = [followed(policy, policy.x_s, s, t, n) for n in (32, 64)]
            return jnp.stack(found) - exact.average_velocity(policy.x_s, s, t)[None]

        each = jax.vmap(one, (0, None, None))
        return jax.vmap(each, (None, 0, 0))(x, sources, targets)

    apart = np.abs(once(run)(normal(64, 1), sources, targets))
    coarse, fine = apart.max(axis=(1, 3)).T
    assert coarse.max() < 0.02 and np.all(coarse[:3] / fine[:3] > 3)


@pytest.mark.long
def test_a_map_of_policies_starts_as_its_network(normal):
    """Its velocity, and jumps to where they start; with the last layer unknown there is none."""
    net = TinyNet((2,), key=jax.random.key(0))
    model = MixtureMap.around(net, LinearPath(), components=3, substeps=4)

    def run(model, x, s):
        one = lambda x, s: (model.velocity(x, s), model.average_velocity(x, s, s), net(x, s, s))  # noqa: E731
        return jax.vmap(one)(x, s)

    velocity, at_rest, wanted = once(run)(model, normal(4, 2), np.float32([0.0, 0.2, 0.7, 1.0]))
    np.testing.assert_allclose(velocity, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(at_rest, wanted, rtol=1e-5, atol=1e-5)
    with pytest.raises(UserError, match="--net mlp"):
        bare = MixtureMap.around(Zero(), LinearPath(), components=3, substeps=4)
        bare.velocity(jnp.zeros(2), jnp.asarray(0.5))
    with pytest.raises(UserError, match="--plugin pi-flow"):
        of_policy(OracleMap(problem=policies.line(), path=LinearPath()))


@pytest.mark.long
def test_every_position_has_a_mixture_of_its_own(normal, rng, x64):
    """Its velocity is that of the position alone, whatever stands beside it."""
    path, s, u = PATHS["trig"](), np.float64(1.2), np.float64(0.3)
    x_s, x_u, velocities = normal(2, 2, 3), normal(2, 2, 3), normal(4, 2, 2, 3)
    levels, widths = normal(4, 2, 2, 1), rng.uniform(-1, 1, (4, 2, 2, 1))

    def run(x_s, x_u, velocities, levels, widths, s, u):
        def one(x_s, x_u, *rest):
            return MixturePolicy.of(path, x_s, s, *rest).velocity(x_u, u)

        axes = (0, 0, 1, 1, 1)
        return one(x_s, x_u, velocities, levels, widths), jax.vmap(jax.vmap(one, axes), axes)(
            x_s, x_u, velocities, levels, widths
        )

    whole, alone = once(run)(x_s, x_u, velocities, levels, widths, s, u)
    np.testing.assert_allclose(whole, alone, rtol=1e-12)


@pytest.mark.long
def test_states_on_the_way_are_those_of_jumps_that_end_there(normal, x64):
    """All are of one ODE."""
    path, s, times = PATHS["cosine"](), np.float64(0.9), np.array([0.8, 0.45, 0.2])

    def run(x, s, times):
        policy = policies.exact_map(policies.plane(), path).policy(x, s)
        ends = [x + (u - s) * followed(policy, x, s, u, 256) for u in times]
        return visited(policy, x, s, times, 64), jnp.stack(ends)

    states, ends = once(run)(normal(2), s, times)
    np.testing.assert_allclose(states, ends, atol=1e-4)
    assert np.all(np.abs(np.diff(ends, axis=0)).max(axis=1) > 0.01)
