"""A teacher's pairs of noise and sample."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.data import DATA
from core.errors import UserError
from core.flow.path import TrigPath
from core.flow.solve import FixedSteps
from core.flow.teacher import MapTeacher
from core.methods.plugin import DataContext
from core.methods.reflow import nearest_pairs, teacher_pairs
from core.oracle import GaussianProblem, OracleMap
from plugins.consistency.kd import KD
from plugins.flow_matching.reflow import Reflow

PROBLEM = GaussianProblem(mean=jnp.array([0.5, -0.3]), covariance=jnp.diag(jnp.array([0.8, 0.5])))


def pairs(count, seed=0):
    data = DATA["eight-gaussians"](n=64, labelled=True).load()
    teacher = MapTeacher(OracleMap(problem=PROBLEM, path=TrigPath()))
    made = teacher_pairs(data, teacher, count, FixedSteps("dopri5", 12), key=jr.key(seed))
    return data, teacher.flow_map, made


@pytest.mark.programs(48)
def test_each_sample_is_the_exact_end_of_its_noise():
    data, exact, made = pairs(1500)
    assert made.examples.shape == made.noise.shape == (1500, 2) and len(made) == 1500
    start = jnp.asarray(made.noise)
    end = jax.vmap(lambda z: exact(z, jnp.asarray(jnp.pi / 2), jnp.asarray(0.0)))(start)
    np.testing.assert_allclose(made.examples, end, atol=2e-5)
    assert set(made.labels) <= set(data.labels) and made.num_classes == data.num_classes
    assert len(np.unique(made.noise)) == made.noise.size


def test_the_same_key_gives_the_same_pairs_and_another_key_others():
    first, again, other = (pairs(40, seed)[2].noise for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.any(first == other)


def test_reflow_trains_on_as_many_pairs_as_asked_for():
    data = DATA["checkerboard"](n=64).load()
    teacher = MapTeacher(OracleMap(problem=PROBLEM, path=TrigPath()))
    made = Reflow(pairs=30, solver_steps=2).dataset(data, DataContext(teacher, jr.key(0)))
    assert len(made) == 30 and made.noise is not None and made.labels is None


def test_the_making_of_pairs_tells_how_far_it_is():
    calls = []
    data = DATA["checkerboard"](n=64).load()
    teacher = MapTeacher(OracleMap(problem=PROBLEM, path=TrigPath()))
    flags = Reflow(pairs=1100, solver="euler", solver_steps=1)
    flags.dataset(data, DataContext(teacher, jr.key(0), lambda *given: calls.append(given)))
    assert calls == [(1024, 1100), (1100, 1100)]


def test_the_farthest_pairs_are_left_out():
    _, _, made = pairs(40)
    kept = nearest_pairs(made, 0.75)
    apart = np.linalg.norm(made.examples - made.noise, axis=1)
    assert len(kept) == 30 and len(kept.labels) == 30
    left = np.linalg.norm(kept.examples - kept.noise, axis=1)
    assert left.max() <= np.sort(apart)[29] and nearest_pairs(made, 1.0) is made
    places = [int(np.flatnonzero(made.noise[:, 0] == z)[0]) for z in kept.noise[:, 0]]
    assert places == sorted(places)
    np.testing.assert_array_equal(kept.labels, made.labels[places])


@pytest.mark.parametrize("flag, value", [("full", 0.5), ("diagonal", 0.1), ("label_drop", 0.1)])
def test_regression_on_pairs_is_of_the_whole_jump_and_of_every_label(flag, value):
    """Between its ends a pair is on no trajectory, and its noise belongs to one label."""
    with pytest.raises(UserError, match=f"leave out --plugin.{flag.replace('_', '-')}$"):
        KD(**{flag: value})
