"""What consistency models say of finite steps."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import rows as conformance
from core.conformance.rows import _mean_size
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher
from core.objectives.row import make_row
from core.oracle import OracleMap
from plugins.consistency.jump import ConsistencyJump, SameNoise, TeacherStep
from plugins.eulerian.soflow import SolutionJump


@pytest.fixture
def case(x64):
    path = LinearPath()
    exact = OracleMap(problem=conformance.problems()["mixture"], path=path)
    keys = jr.split(jr.key(0), 32)
    s = jnp.linspace(0.35, 0.95, 32)

    def one(key, s):
        x_0, z = jr.normal(key, (2, 1))
        return make_row(path, x_0, z, s, 0.2 * s, None, key)

    return exact, jax.vmap(one)(keys, s)


def size(term, exact, rows):
    return float(_mean_size(term, exact.problem, exact, {}, rows))


def test_training_on_pairs_is_biased_at_a_finite_step_and_the_teacher_less(case):
    """The bias of the pair's velocity exceeds that of a teacher's Euler step; Heun's is small."""
    exact, rows = case
    teacher = MapTeacher(exact)
    training = ConsistencyJump(SameNoise(), step=0.05)
    euler, heun = (
        ConsistencyJump(TeacherStep(teacher, solver), step=0.05) for solver in ("euler", "heun")
    )
    biases = [size(term, exact, rows) for term in (training, euler, heun)]
    assert biases[0] > 1.2 * biases[1] > 12 * biases[2] > 0


def test_a_finite_step_along_the_pair_is_biased_and_the_bias_vanishes(case):
    exact, rows = case
    biases = [size(SolutionJump(rho, rho), exact, rows) for rho in (0.4, 0.1, 0.01)]
    assert biases[0] > 0.02
    np.testing.assert_allclose(biases[1] / biases[2], 10, rtol=0.25)
