"""Step functions: neighbours lie between the ends, gaps have the mean they are given."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.times import steps
from core.times.pairs import GridSource

ONE = jnp.ones(())


@pytest.mark.parametrize("name", steps.STEPS)
def test_a_neighbour_lies_below_its_source_and_not_below_the_target(name):
    step = steps.STEPS[name]
    s = jnp.linspace(0.0, 1.0, 201)
    u = step(s, jnp.zeros(201), ONE)
    assert jnp.all((u >= 0) & (u <= s)) and jnp.all(jnp.isfinite(u))
    assert jnp.all(step(s, 0.9 * s, ONE) >= 0.9 * s)
    assert jnp.all(u[100:195] < s[100:195]) or name == "quadratic-convex"


@pytest.mark.parametrize("name", steps.STEPS)
def test_shapes_are_scaled_to_a_mean_gap(name):
    step = steps.with_mean_gap(steps.STEPS[name], 0.01)
    assert steps.mean_gap(step) == pytest.approx(0.01, rel=1e-3)
    assert type(step) is type(steps.STEPS[name])


def test_gaps_have_the_values_of_their_formulas():
    s = jnp.asarray(0.6)
    assert float(steps.ExponentialStep().gap(s, ONE)) == pytest.approx(0.005 * np.exp(-2.1))
    assert float(steps.PolynomialStep(0.1, 2, 1).gap(s, ONE)) == pytest.approx(0.1 * 0.16 * 0.6)
    u = s - steps.RatioStep(0.3).gap(s, ONE)
    assert float(u / (1 - u)) == pytest.approx(1.5 - 0.3, rel=1e-5)
    u = s - steps.EdmStep(0.02).gap(s, ONE)
    assert float(u / (1 - u)) ** (1 / 7) == pytest.approx(1.5 ** (1 / 7) - 0.02, rel=1e-5)
    nodes = np.linspace(0.0, 1.0, 20_001)
    count = np.trapezoid(
        1 / np.asarray(steps.ExponentialStep().gap(jnp.asarray(nodes), ONE)), nodes
    )
    assert count == pytest.approx(1837, rel=1e-3)  # as a grid of so many intervals


def test_tuning_begins_as_diffusion_training_and_ends_with_small_steps():
    step, s = steps.TuningStep(0.5, 8), jnp.linspace(0.05, 0.6, 20)
    assert jnp.all(step(s, 0 * s, jnp.zeros(())) == 0)
    last = s - step(s, 0 * s, ONE)
    before = s - step(s, 0 * s, jnp.asarray(0.8))
    assert jnp.all(last > 0) and jnp.all(last < before) and float(last.max()) < 0.02


@pytest.mark.parametrize("doubling, counts", [(False, (2, 11, 20)), (True, (2, 4, 16))])
@pytest.mark.parametrize("rho", [0.0, 7.0])
def test_neighbours_on_a_grid_share_a_node_and_the_grid_is_refined(rho, doubling, counts):
    grid = steps.NodeGrid(2, 20 if not doubling else 16, rho, doubling=doubling)
    assert [int(grid.intervals(jnp.asarray(p))) for p in (0.0, 0.3, 1.0)] == list(counts)
    for progress in (0.0, 1.0):
        count = int(grid.intervals(jnp.asarray(progress)))
        s, t = GridSource(grid)(jr.key(0), 3000, jnp.asarray(progress))
        u = steps.GridStep(grid)(s, t, jnp.asarray(progress))
        upper, lower = np.unique(np.asarray(s)), np.unique(np.asarray(u).round(6))
        assert len(upper) == len(lower) == count
        np.testing.assert_allclose(upper[:-1], lower[1:], atol=1e-5)
        assert lower[0] == 0 and upper[-1] == 1 and jnp.all(t == 0)


def test_a_finest_grid_still_has_neighbours_in_single_precision():
    grid = steps.NodeGrid(1280, 1280)
    nodes = grid.node(jnp.arange(1281) / 1280)
    u = steps.GridStep(grid)(nodes[1:], jnp.zeros(1280), ONE)
    np.testing.assert_allclose(u, nodes[:-1], atol=2e-6)


def test_log_normal_nodes_have_the_probabilities_of_their_intervals():
    from scipy.stats import norm

    grid = steps.NodeGrid(10, 10)
    s, _ = GridSource(grid, -1.1, 2.0)(jr.key(0), 40_000, ONE)
    edges = np.log(np.asarray(grid.sigma(jnp.arange(11) / 10)))
    expected = np.diff(norm.cdf(edges, -1.1, 2.0))
    nodes = np.asarray(grid.node(jnp.arange(1, 11) / 10))
    found = [(np.abs(np.asarray(s) - node) < 1e-6).mean() for node in nodes]
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.01)
