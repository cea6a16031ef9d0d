"""Step functions: neighbours lie between the ends, gaps have the mean they are given."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.stats import norm

from core.times import steps
from core.times.pairs import GridSource
from tests.compiling import once


@pytest.mark.parametrize("name", steps.STEPS)
def test_a_neighbour_lies_below_its_source_and_not_below_the_target(name):
    step, s = steps.STEPS[name], np.linspace(0.0, 1.0, 201, dtype=np.float32)
    u, above = once(lambda s, t: (step(s, 0 * t, jnp.ones(())), step(s, t, jnp.ones(()))))(
        s, np.float32(0.9) * s
    )
    assert np.all((u >= 0) & (u <= s)) and np.all(np.isfinite(u))
    assert np.all(above >= np.float32(0.9) * s)
    assert np.all(u[100:195] < s[100:195]) or name == "quadratic-convex"


@pytest.mark.parametrize("name", steps.STEPS)
def test_shapes_are_scaled_to_a_mean_gap(name):
    step = steps.with_mean_gap(steps.STEPS[name], 0.01)
    assert steps.mean_gap(step) == pytest.approx(0.01, rel=1e-3)
    assert type(step) is type(steps.STEPS[name])


def test_gaps_have_the_values_of_their_formulas():
    nodes, one = np.linspace(0.0, 1.0, 20_001), np.float32(1.0)
    shapes = (
        steps.ExponentialStep(), steps.PolynomialStep(0.1, 2, 1), steps.RatioStep(0.3),
        steps.EdmStep(0.02),
    )  # fmt: skip

    @once
    def gaps(s, nodes, one):
        return [step.gap(s, one) for step in shapes], steps.ExponentialStep().gap(nodes, one)

    (exponential, polynomial, ratio, edm), along = gaps(np.float32(0.6), np.float32(nodes), one)
    assert exponential == pytest.approx(0.005 * np.exp(-2.1))
    assert polynomial == pytest.approx(0.1 * 0.16 * 0.6)
    u = 0.6 - ratio
    assert u / (1 - u) == pytest.approx(1.5 - 0.3, rel=1e-5)
    u = 0.6 - edm
    assert (u / (1 - u)) ** (1 / 7) == pytest.approx(1.5 ** (1 / 7) - 0.02, rel=1e-5)
    count = np.trapezoid(1 / along.astype(np.float64), nodes)
    assert count == pytest.approx(1837, rel=1e-3)  # as a grid of so many intervals


def test_tuning_begins_as_diffusion_training_and_ends_with_small_steps():
    step, s = steps.TuningStep(0.5, 8), np.linspace(0.05, 0.6, 20, dtype=np.float32)
    at = once(jax.vmap(lambda s, progress: step(s, 0 * s, progress), (None, 0)))
    start, later, end = at(s, np.float32([0.0, 0.8, 1.0]))
    assert np.all(start == 0)
    last, before = s - end, s - later
    assert np.all(last > 0) and np.all(last < before) and last.max() < 0.02


@pytest.mark.parametrize("doubling, counts", [(False, (2, 11, 20)), (True, (2, 4, 16))])
@pytest.mark.parametrize("rho", [0.0, 7.0])
def test_neighbours_on_a_grid_share_a_node_and_the_grid_is_refined(rho, doubling, counts):
    grid = steps.NodeGrid(2, 20 if not doubling else 16, rho, doubling=doubling)

    @once
    @jax.vmap
    def run(progress):
        s, t = GridSource(grid)(jr.key(0), 3000, progress)
        return grid.intervals(progress), s, steps.GridStep(grid)(s, t, progress), t

    intervals, *rows = run(np.float32([0.0, 0.3, 1.0]))
    assert list(intervals) == list(counts)
    for end in (0, 2):
        s, u, t = (row[end] for row in rows)
        upper, lower = np.unique(s), np.unique(u.round(6))
        assert len(upper) == len(lower) == counts[end]
        np.testing.assert_allclose(upper[:-1], lower[1:], atol=1e-5)
        assert lower[0] == 0 and upper[-1] == 1 and np.all(t == 0)


def test_a_finest_grid_still_has_neighbours_in_single_precision():
    grid = steps.NodeGrid(1280, 1280)

    @once
    def run(shares, one):
        nodes = grid.node(shares)
        return nodes, steps.GridStep(grid)(nodes[1:], jnp.zeros(1280), one)

    nodes, u = run(np.float32(np.arange(1281) / 1280), np.float32(1.0))
    np.testing.assert_allclose(u, nodes[:-1], atol=2e-6)


def test_log_normal_nodes_have_the_probabilities_of_their_intervals():
    grid = steps.NodeGrid(10, 10)

    @once
    def run(shares, one):
        s, _ = GridSource(grid, -1.1, 2.0)(jr.key(0), 40_000, one)
        return s, grid.sigma(shares), grid.node(shares)

    s, sigma, nodes = run(np.float32(np.arange(11) / 10), np.float32(1.0))
    expected = np.diff(norm.cdf(np.log(sigma), -1.1, 2.0))
    found = [(np.abs(s - node) < 1e-6).mean() for node in nodes[1:]]
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.01)
