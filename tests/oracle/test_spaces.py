"""Distributions on spaces: velocities, densities and flow maps against means over pairs, against
the mass of caps and against solves."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import ive
from scipy.stats import norm

from core.conformance import SPACE_PROBLEMS
from core.flow.solve import AdaptiveSteps
from core.oracle import Fisher, RotationGaussian, SpaceMap, WrappedNormal
from tests.compiling import once

NAMES = ("sphere", "torus", "so3")


def around(cls, n, width):
    """One component, its centre not on an axis."""
    centre = np.arange(1.0, n + 1)
    return cls(jnp.asarray(centre / np.linalg.norm(centre)), width)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.long
def test_the_velocity_is_the_mean_of_those_of_pairs(name, x64):
    """By quadrature over the pairs that meet at a point, which knows the density of the data alone;
    and the density of the marginal is its mean weight."""
    problem = SPACE_PROBLEMS[name]()

    def both(key):
        x = problem.space.uniform(key, problem.shape)
        velocities, weights = problem.pair_velocities(x)
        ends = jax.vmap(lambda v: problem.space.exp(x, -0.6 * v))(velocities)
        density = weights @ jax.vmap(lambda y: problem.density_and_flux(y, 0.0)[0])(ends)
        velocities, weights = problem.posterior_velocities(x, 0.6)
        mean = jnp.tensordot(weights, velocities, 1)
        return mean, density, *reversed(problem.density_and_flux(x, 0.6))

    mean, density, flux, expected = once(jax.vmap(both))(jr.split(jr.key(0), 4))
    np.testing.assert_allclose(density, expected, rtol=2e-6)
    np.testing.assert_allclose(mean, flux / expected[:, None], atol=2e-6)


@pytest.mark.parametrize("cls, n, width", [(Fisher, 3, 4.0), (RotationGaussian, 4, 0.6)])
@pytest.mark.long
def test_the_flow_keeps_the_mass_of_caps(cls, n, width, x64):
    problem = around(cls, n, width)
    exact, precise = (
        SpaceMap(problem=problem, path=problem.path),
        AdaptiveSteps("dopri8", 1e-12, 1e-12),
    )

    def ends(key):
        x, times = problem.space.uniform(key, problem.shape), ((1.0, 0.0), (0.9, 0.2), (0.2, 0.8))
        s, t = jnp.asarray(times).T

        def of(s, t):
            return exact(x, s, t), exact.flow(x, s, t, stepping=precise), problem.flow(x, s, t)

        return jax.vmap(of)(s, t)

    jumped, solved, caps = once(ends)(jr.key(1))
    np.testing.assert_allclose(solved, caps, atol=1e-12)
    np.testing.assert_allclose(jumped, caps, atol=1e-9)


def test_densities_of_the_data_are_the_known_ones(x64):
    """Von Mises and Fisher's, the wrapped normal, and the heat kernel of rotations by images."""
    kappa, std, eps = 4.0, 0.7, 0.5
    theta = np.linspace(0.1, 1.4, 5)
    circle = WrappedNormal(jnp.zeros(1), jnp.full(1, std))
    fisher = Fisher(jnp.array([0.0, 0.0, 1.0]), kappa)
    rotation = RotationGaussian(jnp.array([1.0, 0.0, 0.0, 0.0]), eps)

    def logs(theta):
        zero, sin, cos = jnp.zeros(()), jnp.sin(theta), jnp.cos(theta)
        points = theta[None], jnp.stack([sin, zero, cos]), jnp.stack([cos, sin, zero, zero])
        problems = circle, fisher, rotation
        return [problem.log_prob(x, 0.0) for problem, x in zip(problems, points, strict=True)]

    found = once(jax.vmap(logs))(theta)
    images = theta[:, None] + 2 * np.pi * np.arange(-4, 5)[None]
    np.testing.assert_allclose(np.exp(found[0]), norm(scale=std).pdf(images).sum(1), rtol=1e-12)
    scale = 4 * np.pi * np.sinh(kappa) / kappa
    np.testing.assert_allclose(np.exp(found[1]), np.exp(kappa * np.cos(theta)) / scale, rtol=1e-11)
    # Poisson's formula turns the series of characters into images of the angle.
    k = np.arange(-4, 5)[None]
    omega = 2 * theta[:, None] + 2 * np.pi * k
    terms = (-1.0) ** k * omega * np.exp(-((omega / eps) ** 2) / 2) / np.sin(theta)[:, None]
    density = np.sqrt(2 * np.pi) / eps**3 * np.exp(eps**2 / 8) * terms.sum(1)
    np.testing.assert_allclose(np.exp(found[2]), density, rtol=1e-10)
    assert abs(fisher.spectrum[1] - ive(1.5, kappa) / ive(0.5, kappa)) < 1e-15
