"""Couplings of the ends of a batch: optimal, within classes, and of the right marginals."""

import jax
import jax.random as jr
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from core.flow.path import LinearPath
from core.objectives.coupling import ExactCoupling, SinkhornCoupling, coupled, transport_cost
from core.objectives.objective import Batch
from tests.compiling import once

PATH = LinearPath()


def drawn(coupling, x, z=None, label=None, draws=1):
    """The coupled ends, once for each of some keys."""
    keys = jr.split(jr.key(0), draws)
    run = once(
        lambda x, z, label: jax.vmap(
            lambda key: coupled(coupling, PATH, Batch(x, label, z), key=key).z
        )(keys)
    )
    return run(x, z, label)


def row_of(z, coupled):
    """The row of `z` that each coupled end is."""
    return np.argmin(((coupled[:, None] - z) ** 2).sum(-1), axis=1)


@pytest.mark.slow
def test_the_exact_coupling_is_the_assignment_of_least_cost(normal):
    x, z = normal(24, 3, 2), normal(24, 3, 2)
    cost = ((x[:, None] - z) ** 2).sum((2, 3))
    _, best = linear_sum_assignment(cost)
    np.testing.assert_array_equal(drawn(ExactCoupling(), x, z)[0], z[best])
    np.testing.assert_allclose(once(transport_cost)(x, z), cost, rtol=1e-5)


def test_on_a_line_the_exact_coupling_keeps_the_order(normal):
    x, z = normal(16, 1), normal(16, 1)
    found = drawn(ExactCoupling(), x, z)[0]
    np.testing.assert_array_equal(found[np.argsort(x[:, 0])], np.sort(z, axis=0))


def test_only_ends_of_one_class_change_places(normal):
    """Every class keeps the ends that it came with, though others are nearer: so it starts from all
    of the noise, as its samples do."""
    label = np.arange(16, dtype=np.int32) % 2
    x, z = normal(16, 1) / 10 + 10 * label[:, None], normal(16, 1)
    found = drawn(ExactCoupling(), x, z, label)[0]
    for k in range(2):
        np.testing.assert_array_equal(np.sort(found[label == k], 0), np.sort(z[label == k], 0))
        np.testing.assert_array_equal(row_of(z, found)[label == k] % 2, k)
    order = np.lexsort((x[:, 0], label))
    assert (np.diff(found[order][:8, 0]) > 0).all() and (np.diff(found[order][8:, 0]) > 0).all()


@pytest.mark.slow
def test_a_plan_of_entropy_keeps_the_marginals_and_lies_between(normal):
    """Each end is drawn once a batch in the mean; with less entropy the cost falls to the least."""
    x, z = normal(12, 2) + 2, normal(12, 2)
    cost = ((x[:, None] - z) ** 2).sum(-1)
    least = cost[linear_sum_assignment(cost)].mean()
    costs = []
    for entropy in (0.01, 0.3, 30.0):
        rows = [row_of(z, one) for one in drawn(SinkhornCoupling(entropy), x, z, draws=2000)]
        counts = np.bincount(np.concatenate(rows), minlength=12) / 2000
        assert np.abs(counts - 1).max() < 5 * np.sqrt(12 * (1 / 12) * (11 / 12) / 2000)
        costs.append(np.mean([cost[np.arange(12), row].mean() for row in rows]))
    assert costs[0] < 1.02 * least and np.all(np.diff(costs) > 0)
    np.testing.assert_allclose(costs[2], cost.mean(), rtol=0.02)


@pytest.mark.slow
def test_a_plan_of_entropy_stays_within_the_classes(normal):
    label = np.arange(12, dtype=np.int32) % 3
    x, z = normal(12, 2), normal(12, 2)
    for one in drawn(SinkhornCoupling(0.5), x, z, label, draws=50):
        np.testing.assert_array_equal(row_of(z, one) % 3, label)


def test_noise_is_drawn_where_there_is_none_and_examples_stay(normal):
    x, label = normal(6, 2), np.zeros(6, np.int32)
    batch, again = once(
        lambda x, label: tuple(
            coupled(ExactCoupling(), PATH, Batch(x, label), key=jr.key(k)) for k in (0, 1)
        )
    )(x, label)
    np.testing.assert_array_equal(batch.x_0, x)
    assert batch.z.shape == (6, 2) and not np.array_equal(batch.z, again.z)
