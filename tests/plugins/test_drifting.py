"""Drifting: the field's symmetries, and samples that follow it."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.path import LinearPath
from plugins.drifting.field import distances, joint_field, mean_shift_field
from plugins.drifting.loss import DriftObjective

X = jr.normal(jr.key(0), (7, 2))
P, Q = jr.normal(jr.key(1), (12, 2)) + 1.0, jr.normal(jr.key(2), (9, 2))


def joint(x, positive, negative, temperature=0.5):
    targets = jnp.concatenate([positive, negative])
    is_positive = jnp.arange(len(targets)) < len(positive)
    weight = jnp.ones((len(x), len(targets)))
    return joint_field(distances(x, targets), targets, is_positive, weight, temperature)


@pytest.mark.parametrize("field", [mean_shift_field, joint])
def test_the_field_is_antisymmetric_and_zero_between_equal_samples(field, x64):
    x, p, q = (a.astype(jnp.float64) for a in (X, P, Q))
    np.testing.assert_allclose(field(x, p, q, 0.5), -field(x, q, p, 0.5), atol=1e-14)
    np.testing.assert_allclose(field(x, p, p, 0.5), 0.0, atol=1e-14)
    assert float(jnp.abs(field(x, p, q, 0.5)).max()) > 0.1


def test_the_joint_field_is_the_difference_of_means_damped_by_their_masses(x64):
    x, p, q = (a.astype(jnp.float64) for a in (X, P, Q))
    targets = jnp.concatenate([p, q])
    logits = -distances(x, targets) / 0.5
    A = jnp.sqrt(jax.nn.softmax(logits, 1) * jax.nn.softmax(logits, 0))
    plus, minus = A[:, :12], A[:, 12:]
    S, T = plus.sum(1, keepdims=True), minus.sum(1, keepdims=True)
    np.testing.assert_allclose(joint(x, p, q), S * T * (plus @ p / S - minus @ q / T), atol=1e-12)


def test_the_field_turns_and_moves_with_the_points(x64):
    x, p, q = (a.astype(jnp.float64) for a in (X, P, Q))
    turn, move = jnp.array([[0.6, -0.8], [0.8, 0.6]]), jnp.array([[3.0, -1.0]])
    moved = joint(*(a @ turn.T + move for a in (x, p, q)))
    np.testing.assert_allclose(moved, joint(x, p, q) @ turn.T, atol=1e-12)


def test_other_classes_have_no_part_in_the_drift():
    objective = DriftObjective(LinearPath(), num_classes=2)
    label = jnp.array([0, 0, 0, 1, 1, 1])
    x, data = X[:6], P[:6]
    far = data.at[3:].add(100.0)

    def pull(data):
        return jax.grad(lambda x: objective.loss(x, data, label)[0])(x)[:3]

    first, second = (pull(d) / jnp.linalg.norm(pull(d)) for d in (data, far))
    np.testing.assert_allclose(jnp.sign(first), jnp.sign(second))
    assert jnp.isfinite(second).all()


def test_a_cloud_of_points_drifts_onto_the_data():
    """Gradient steps of the loss on free points, no network: their mean distance falls."""
    objective = DriftObjective(LinearPath(), temperatures=(0.2,))
    data = jnp.where(jnp.arange(64)[:, None] % 2 == 0, 1.5, -1.5) + 0.1 * jr.normal(
        jr.key(3), (64, 2)
    )
    x = 0.3 * jr.normal(jr.key(4), (64, 2))

    def gap(x):
        return float(jnp.mean(jnp.min(distances(data, x), axis=1)))

    step = jax.jit(lambda x: x - 1.0 * jax.grad(lambda y: objective.loss(y, data, None)[0])(x))
    before = gap(x)
    for _ in range(300):
        x = step(x)
    assert gap(x) < 0.25 * before
