"""Self-E: what its goal is with labels and without."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance.problems import classes
from core.errors import UserError
from core.flow.condition import Condition
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.objectives.row import make_row
from core.oracle import GuidedOracle
from plugins.distribution.self_e import SelfE, SelfEvaluation
from tests.compiling import once

PATH, NULL = LinearPath(), 2


def net(x, s, t, cond):
    return 0.3 * x + t - s + (0.0 if cond is None else cond.label)


@pytest.mark.slow
def test_without_a_label_what_is_left_is_the_residual_of_the_data(normal):
    """Over `1 + eta_s - eta_t`: all of it on the diagonal, nothing at pure noise. The null class is
    no label either."""
    s, t = np.float32([0.8, 0.8, 0.6, 1.0]), np.float32([0.3, 0.8, 0.0, 0.5])

    def run(x_0, z, s, t):
        def one(x_0, z, s, t, cond):
            row = make_row(PATH, x_0, z, s, t, cond, jr.key(0))
            model = AverageVelocityMap(net=net, path=PATH)
            V = model.average_velocity(row.x_s, s, t, cond)
            return SelfEvaluation(NULL)(model, model, row), V - row.v

        conditions = None, Condition(label=jnp.asarray(NULL))
        return [jax.vmap(lambda *row: one(*row, cond))(x_0, z, s, t) for cond in conditions]

    with np.errstate(divide="ignore"):
        left = 1 / (1 + s / (1 - s) - t / (1 - t))
    for residual, of_data in once(run)(normal(4, 3), normal(4, 3), s, t):
        np.testing.assert_allclose(residual, left[:, None] * of_data, rtol=2e-5, atol=1e-6)


@pytest.mark.slow
def test_a_sample_is_moved_by_the_means_given_its_label_and_not(x64):
    """Against posterior means of a mixture, and to the side on which its class lies."""
    problem, t = classes(), 0.4
    exact = GuidedOracle(distribution=problem, path=PATH)

    def run(x, labels):
        def one(x, label, key):
            row = make_row(PATH, x, x, jnp.asarray(0.9), jnp.asarray(t), Condition(label), key)
            x_t = (1 - t) * x + t * PATH.noise(key, x.shape)
            mean, own = (problem.given(k).x_0_mean(PATH, x_t, t) for k in (NULL, label))
            return SelfEvaluation(NULL).evaluated(exact, x, row), x - (mean - own)

        return jax.vmap(one)(x, labels, jr.split(jr.key(0), len(x)))

    x, labels = np.linspace(-2, 2, 32)[:, None], np.arange(32) % 2
    moved, expected = once(run)(x, labels)
    np.testing.assert_allclose(moved, expected, rtol=1e-9)
    by = (moved - x).squeeze()
    assert np.all(by[labels == 0] < 0) and np.all(by[labels == 1] > 0)


@pytest.mark.long
def test_the_goal_has_the_norm_of_the_example(normal):
    s = 0.7

    def run(x_0, z):
        model = AverageVelocityMap(net=net, path=PATH)
        cond = Condition(label=jnp.asarray(1))
        row = make_row(PATH, x_0, z, jnp.asarray(s), jnp.asarray(0.2), cond, jr.key(0))
        V = model.average_velocity(row.x_s, row.s, row.t, cond)
        terms = SelfEvaluation(NULL, normalise=True), SelfEvaluation(NULL)
        return [row.x_s - s * (V - term(model, model, row)) for term in terms]

    x_0 = normal(5)
    goal, free = (np.asarray(found) for found in once(run)(x_0, normal(5)))
    np.testing.assert_allclose(goal, free * np.linalg.norm(x_0) / np.linalg.norm(free), rtol=1e-4)


def test_a_null_class_that_is_never_trained_is_refused():
    with pytest.raises(UserError, match="--plugin.label-drop"):
        SelfE(label_drop=0.0)
