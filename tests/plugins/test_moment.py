"""Moment matching: which way samples go, and where the fake rests."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.field import VelocityField
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher
from core.objectives.objective import Batch
from core.objectives.one_step import OneStep
from core.oracle import GaussianProblem, OracleMap
from core.times.distributions import Uniform
from plugins.distribution.anchor import Anchor
from plugins.distribution.dmd import Matching
from tests.compiling import once

LINEAR = LinearPath()
DATA = {"mean": (0.5, -0.3), "covariance": ((0.8, 0.0), (0.0, 0.5))}
STUDENT = {"mean": (-1.0, 0.9), "covariance": ((0.4, 0.1), (0.1, 0.9))}


class Between(VelocityField):
    """`share` of one velocity and the rest of another."""

    one: VelocityField
    other: VelocityField
    share: jax.Array
    path: LinearPath = LINEAR

    def velocity(self, x, t, cond=None):
        return self.share * self.one.velocity(x, t) + (1 - self.share) * self.other.velocity(x, t)


class Student(eqx.Module):
    """Noise to a Gaussian in one step, moved."""

    by: jax.Array

    def __call__(self, x, s, t, cond=None):
        del s, t, cond
        root = np.linalg.cholesky(np.array(STUDENT["covariance"]))
        return np.array(STUDENT["mean"]) + root @ x + self.by


@pytest.mark.slow
def test_moments_are_matched_towards_the_teacher_by_a_fake_that_rests_halfway(x64):
    """Downhill in the objective's own loss, and nowhere where the fake is the teacher."""
    taught, own = (
        OracleMap(problem=GaussianProblem(*map(jnp.array, one.values())), path=LINEAR)
        for one in (DATA, STUDENT)
    )
    generate = OneStep(LINEAR)
    objective = Matching(
        generate, MapTeacher(taught), Anchor(0.0, generate), Uniform(0.02, 0.98), every=1,
        normalise=False, tether=1.0,
    )  # fmt: skip

    @once
    def run(shares, x_0):
        def losses(by, share):
            players = {"model": Student(by), "fake": Between(own, objective.teacher, share)}
            given = {}, None, Batch(x_0), jr.key(3), jnp.asarray(0)
            found = objective(players, *given)[0]
            return found["model"], found["fake"]

        slope = jax.value_and_grad(losses, has_aux=True)
        (_, fake), uphill = jax.vmap(slope, (None, 0))(jnp.zeros(2), shares)
        return uphill, fake

    shares = np.array([0.0, 0.5, 1.0])
    uphill, fake = run(shares, np.zeros((4096, 2)))
    towards = np.array(DATA["mean"]) - STUDENT["mean"]
    assert not np.any(uphill[0]) and np.all(-uphill[2] * towards > 0)
    np.testing.assert_allclose(uphill[1], uphill[2] / 2, rtol=1e-9)
    curve = np.polynomial.Polynomial.fit(shares, fake, 2)
    assert curve.deriv().roots()[0] == pytest.approx(0.5, abs=0.03)
