"""What consistency models say of finite steps."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.conformance import problems
from core.conformance.rows import _mean_size
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher
from core.objectives.row import make_row
from core.oracle import OracleMap
from plugins.consistency.jump import ConsistencyJump, SameNoise, TeacherStep
from plugins.eulerian.soflow import SolutionJump
from tests.compiling import once


def sizes(terms):
    """`|E[R | x_s]|` of each term at the exact map, the median over rows, in one program."""

    @once
    def run(problem):
        path = LinearPath()
        exact = OracleMap(problem=problem, path=path)

        def one(key, s):
            x_0, z = jr.normal(key, (2, 1))
            return make_row(path, x_0, z, s, 0.2 * s, None, key)

        rows = jax.vmap(one)(jr.split(jr.key(0), 32), jnp.linspace(0.35, 0.95, 32))
        return [_mean_size(term, problem, exact, {}, rows) for term in terms(exact)]

    return run(problems()["mixture"])


def test_training_on_pairs_is_biased_at_a_finite_step_and_the_teacher_less(x64):
    """The bias of the pair's velocity exceeds that of a teacher's Euler step; Heun's is small."""

    def terms(exact):
        yield ConsistencyJump(SameNoise(), step=0.05)
        for solver in ("euler", "heun"):
            yield ConsistencyJump(TeacherStep(MapTeacher(exact), solver), step=0.05)

    training, euler, heun = sizes(terms)
    assert training > 1.2 * euler > 12 * heun > 0


def test_a_finite_step_along_the_pair_is_biased_and_the_bias_vanishes(x64):
    biases = sizes(lambda exact: [SolutionJump(rho, rho) for rho in (0.4, 0.1, 0.01)])
    assert biases[0] > 0.02
    np.testing.assert_allclose(biases[1] / biases[2], 10, rtol=0.25)
