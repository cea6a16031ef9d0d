"""Score identity distillation: where it rests, which way samples go, and how far."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher
from core.objectives.objective import Batch
from core.objectives.one_step import OneStep
from core.oracle import GaussianProblem, OracleMap
from core.times.distributions import Uniform
from plugins.distribution.anchor import Anchor
from plugins.distribution.sid import Identity
from tests.compiling import once
from tests.plugins.test_moment import DATA, STUDENT, Student

LINEAR = LinearPath()
COVARIANCE = np.array(STUDENT["covariance"])


def oracle(mean):
    """The map of a Gaussian of the student's covariance, around `mean`."""
    problem = GaussianProblem(jnp.array(mean), jnp.array(STUDENT["covariance"]))
    return OracleMap(problem=problem, path=LINEAR)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 1.2])
def test_samples_go_to_the_teachers_mean_as_the_closed_form_says(alpha, x64):
    """Of two Gaussians of one covariance `D_r - D_f = B (m_r - m_f)` with `B = 1 - alpha K`, which
    does not depend on the state: the gradient in the mean is `-B^2 (m_r - m_f)`, whatever `alpha`,
    and zero where the fake is the teacher."""
    taught, own = oracle(DATA["mean"]), oracle(STUDENT["mean"])
    generate = OneStep(LINEAR)
    objective = Identity(
        generate, MapTeacher(taught), Anchor(0.0, generate), Uniform(0.02, 0.98), every=1,
        normalise=False, alpha=alpha,
    )  # fmt: skip

    @once
    def run(x_0):
        def loss(by, fake):
            players = {"model": Student(by), "fake": fake}
            given = {}, None, Batch(x_0), jr.key(3), jnp.asarray(0)
            return objective(players, *given)[0]["model"]

        start = jnp.zeros(2)
        fakes = (MapTeacher(own), objective.teacher)
        return [jax.value_and_grad(loss)(start, fake) for fake in fakes]

    (_, uphill), (at_rest, still) = run(np.zeros((16384, 2)))
    assert at_rest == 0 and not np.any(still)
    tau = np.linspace(0.02, 0.98, 2001)[:, None, None]
    a, identity = 1 - tau, np.eye(2)
    B = identity - a**2 * COVARIANCE @ np.linalg.inv(a**2 * COVARIANCE + tau**2 * identity)
    apart = np.array(DATA["mean"]) - STUDENT["mean"]
    expected = -np.mean(B @ B, axis=0) @ apart / 2  # the loss is a mean over both dimensions
    np.testing.assert_allclose(uphill, expected, rtol=0.02)


@pytest.mark.slow
def test_the_loss_is_one_less_alpha_times_the_divergence(x64):
    """In value, with the fake that belongs to the samples: `E <D_r - D_f, D_r - x>` is
    `E |D_r - D_f|^2`."""
    generate = OneStep(LINEAR)
    own = oracle(STUDENT["mean"])

    @once
    def run(x_0):
        def loss(alpha):
            objective = Identity(
                generate, MapTeacher(oracle(DATA["mean"])), Anchor(0.0, generate),
                Uniform(0.3, 0.7), every=1, normalise=False, alpha=alpha,
            )  # fmt: skip
            players = {"model": Student(jnp.zeros(2)), "fake": MapTeacher(own)}
            given = {}, None, Batch(x_0), jr.key(5), jnp.asarray(0)
            losses, _, metrics = objective(players, *given)
            return losses["model"], metrics["delta"]

        return [loss(alpha) for alpha in (0.0, 1.0, 1.5)]

    (projected, size), (none, _), (below, _) = run(np.zeros((32768, 2)))
    assert projected == pytest.approx(float(size), rel=0.03)
    assert abs(none) < 0.03 * size and below == pytest.approx(-0.5 * float(size), rel=0.06)
