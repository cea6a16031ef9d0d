"""Residuals of exact and damaged maps, the best times, and the bound."""

import itertools

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from core.certificate import (
    KINDS,
    Examples,
    best_times,
    gronwall,
    measure,
    memory,
    set_denoiser,
    stretch,
)
from core.flow.flow_map import FlowMap
from core.flow.path import LinearPath, Path
from core.oracle import GaussianProblem, OracleMap
from tests.compiling import once

STDS = np.array([0.4, 1.5])
EXACT = OracleMap(GaussianProblem(jnp.zeros(2), jnp.diag(jnp.asarray(STDS**2, jnp.float32))),
                  LinearPath())  # fmt: skip


class Damaged(FlowMap):
    """The exact map with `size (t - s)` added to the first number of V: right on the diagonal."""

    path: Path
    size: Array

    def average_velocity(self, x, s, t, cond=None):
        wrong = jnp.zeros_like(x).at[0].set(self.size)
        return EXACT.average_velocity(x, s, t) + (t - s) * wrong


def tables(flow_map, rng, nodes=3, n=4):
    x_0 = jnp.asarray(STDS * rng.standard_normal((n, 2)), jnp.float32)
    z = jnp.asarray(rng.standard_normal((n, 2)), jnp.float32)
    return measure(flow_map, x_0, z, None, np.linspace(1, 0, nodes), substeps=16)


@pytest.mark.long
def test_a_damaged_map_is_off_by_what_was_done_to_it():
    """`F` is off by `size h^2` in one number of two: a root mean square of `size h^2 / sqrt 2`; so
    damaged maps are ranked by every table, and the exact one has no residual."""
    found = [
        tables(Damaged(LinearPath(), jnp.asarray(size)), np.random.default_rng(0))
        for size in (0.0, 0.2, 0.4)
    ]
    gaps = np.array([[np.nan, 0.5, 1.0], [np.nan, np.nan, 0.5], [np.nan] * 3])
    for size, table in zip((0.2, 0.4), found[1:]):
        wanted = size * gaps**2 / np.sqrt(2)
        assert np.allclose(table["ode"], wanted, atol=2e-3, equal_nan=True)
    for kind in KINDS:
        none, less, more = (table[kind] for table in found)
        assert np.isnan(none).sum() == 6 and np.nanmax(none) < 3e-3, kind
        assert np.all((none < less) & (less < more) | np.isnan(none)), kind


def test_the_best_times_are_the_best_of_all(rng):
    cost = rng.random((7, 7)) ** 2
    for jumps in (1, 2, 3, 6):
        ways = [(0, *middle, 6) for middle in itertools.combinations(range(1, 6), jumps - 1)]
        costs = [sum(cost[i, j] for i, j in zip(way, way[1:])) for way in ways]
        assert tuple(best_times(cost, jumps)) == ways[int(np.argmin(costs))]
    with pytest.raises(ValueError, match="7 jumps"):
        best_times(cost, 7)


def test_a_jump_that_is_not_finite_is_on_no_way():
    cost = np.triu(np.ones((4, 4)), 1)
    cost[0, 1], cost[0, 2] = np.nan, 5.0
    assert best_times(cost, 2) == [0, 2, 3] and best_times(cost, 1) == [0, 3]
    with pytest.raises(ValueError, match="3 jumps"):  # the only one begins with the lost jump
        best_times(cost, 3)


def test_the_stretch_of_a_linear_velocity_is_its_largest_rate():
    """`v = (t - (1 - t) c) / (t^2 + (1 - t)^2 c) x` in each direction, `c` the variance."""
    t, c = 0.6, STDS**2
    rates = (t - (1 - t) * c) / (t**2 + (1 - t) ** 2 * c)
    x = jnp.ones((3, 2))
    found = once(lambda x, t: stretch(EXACT, x, None, t, key=jr.key(0)))(x, jnp.asarray(t))
    assert np.isclose(found, np.abs(rates).max(), rtol=1e-3)


def test_the_bound_of_a_constant_residual_and_slope():
    """`r (e^L - 1) / L` over [0, 1]."""
    times = np.linspace(1, 0, 201)
    found = gronwall(times, np.full(201, 0.3), np.full(201, 2.0))
    assert np.isclose(found, 0.3 * (np.exp(2) - 1) / 2, rtol=1e-4)


def test_the_set_has_its_own_denoiser_and_another_map_another_error(rng):
    """By the formula in NumPy; near the data the set's own error is 0, the broad map's is not."""
    training, t = rng.standard_normal((5, 2)).astype(np.float32), 0.5
    labels = np.array([0, 1, 0, 1, 0], np.int32)
    examples = Examples(*(jnp.asarray(rng.standard_normal((3, 2)), jnp.float32) for _ in "xz"))
    found = memory(EXACT, jnp.asarray(training), None, examples, np.array([t, 0.01]))
    x = (1 - t) * np.asarray(examples.x_0) + t * np.asarray(examples.z)
    level = -((x[:, None] - (1 - t) * training) ** 2).sum(-1) / (2 * t**2)
    weights = np.exp(level) / np.exp(level).sum(1, keepdims=True)
    wanted = np.sqrt(np.mean((weights @ training - np.asarray(examples.x_0)) ** 2))
    assert found["set"][0] == pytest.approx(wanted, rel=1e-4)
    shrunk = (1 - t) * STDS**2 / ((1 - t) ** 2 * STDS**2 + t**2)  # of the broad Gaussian
    off = np.sqrt(np.mean((shrunk * x - np.asarray(examples.x_0)) ** 2))
    assert found["map"][0] == pytest.approx(off, rel=1e-4)
    own = Examples(jnp.asarray(training), examples.z[:1].repeat(5, axis=0), jnp.asarray(labels))
    near = memory(EXACT, jnp.asarray(training), jnp.asarray(labels), own, np.array([0.01]))
    assert near["set"][0] < 1e-6 < 1e-4 < near["map"][0]
    assert near["gap"][0] == pytest.approx(near["map"][0])


def test_the_set_of_one_class_is_that_class_alone():
    training, among = np.eye(2, dtype=np.float32), np.array([0.0, -np.inf], np.float32)
    found = once(set_denoiser)(
        LinearPath(), training, np.ones(2, np.float32), np.float32(0.5), among
    )
    assert np.array_equal(found, [1.0, 0.0])
