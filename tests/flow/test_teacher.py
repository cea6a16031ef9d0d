"""Teachers: velocities, guidance, and that no gradient reaches their parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from core.conformance import problems
from core.flow.condition import Condition
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath, Path, TrigPath
from core.flow.solve import FixedSteps
from core.flow.teacher import Autoguided, Guided, MapTeacher, Teacher, frozen
from core.oracle import GaussianProblem, OracleMap
from tests.compiling import once

NULL = 3


def gaussian_teacher(mean=0.5, path=TrigPath()):
    problem = GaussianProblem(jnp.array([mean, -0.3]), jnp.array([[0.8, 0.3], [0.3, 0.5]]))
    return MapTeacher(OracleMap(problem, path))


class ByClass(Teacher):
    """Another Gaussian for each class, and a wide one for the null class."""

    @property
    def path(self) -> Path:
        return LinearPath()

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        label = NULL if cond is None else cond.label
        return jnp.sin(x + label) * (1 + t)


def at(label):
    return Condition(label=jnp.asarray(label))


def test_a_maps_diagonal_teaches_the_marginal_velocity(x64, normal):
    @once
    def both(problem, x, t):
        teacher = MapTeacher(OracleMap(problem, LinearPath()))
        assert teacher.path == LinearPath()
        return teacher.velocity(x, t), problem.velocity(LinearPath(), x, t)

    for name, problem in problems().items():
        got, expected = both(problem, normal(*problem.shape), np.array(0.4))
        np.testing.assert_allclose(got, expected, rtol=1e-9, err_msg=name)


def test_the_flow_is_the_exact_map_and_comes_back(x64, normal):
    @once
    def run(x, s, t):
        teacher = gaussian_teacher()
        there = teacher.flow(x, s, t)
        few = teacher.flow(x, s, t, stepping=FixedSteps("euler", 4))
        return there, teacher.flow_map(x, s, t), teacher.flow(there, t, s), few

    x = normal(2)
    there, exact, back, few = run(x, np.array(1.4), np.array(0.1))
    np.testing.assert_allclose(there, exact, atol=1e-4)
    np.testing.assert_allclose(back, x, atol=1e-4)
    assert np.linalg.norm(there - x) > 0.1
    assert np.linalg.norm(few - there) > 1e-2


def test_the_first_channels_are_guided_alone(normal):
    """As the samplers of DiT and SiT guide 3 of 4: the others have the velocity of their label."""
    x, t = normal(2, 2, 4).astype(np.float32), np.float32(0.4)
    guided = [Guided(ByClass(), 3.0, NULL, channels=n) for n in (None, 3)]

    @once
    def run(x, t):
        both = [one.velocity(x, t, at(1)) for one in guided]
        return *both, ByClass().velocity(x, t, at(1))

    every, some, plain = run(x, t)
    np.testing.assert_allclose(some[..., :3], every[..., :3], rtol=1e-6)
    np.testing.assert_allclose(some[..., 3:], plain[..., 3:], rtol=1e-5)
    assert np.abs(every - plain)[..., 3:].min() > 1e-3


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
def test_guidance_extrapolates_from_the_null_class_inside_its_interval(scale, x64, normal):
    """And without an interval at all times."""
    inside_only = Guided(ByClass(), scale, NULL, (0.2, 0.6))
    everywhere = Guided(ByClass(), scale, NULL)

    @once
    def run(x, times):
        def one(t):
            guided = [given.velocity(x, t, at(1)) for given in (inside_only, everywhere)]
            return *guided, inside_only.velocity(x, t, at(NULL))

        return jax.vmap(one)(times)

    x, times = normal(4), np.array([0.1, 0.2, 0.4, 0.6, 0.7, 80.0])
    inside = np.array([False, True, True, True, False, False])[:, None]
    found, always, null = run(x, times)
    v_cond, v_null = (np.sin(x + label) * (1 + times[:, None]) for label in (1, NULL))
    guided = scale * v_cond + (1 - scale) * v_null
    np.testing.assert_allclose(found, np.where(inside, guided, v_cond), rtol=1e-9)
    np.testing.assert_allclose(always, guided, rtol=1e-9)
    np.testing.assert_allclose(null, v_null, rtol=1e-9)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.1])
def test_autoguidance_by_an_equal_teacher_changes_nothing(scale, x64, normal):
    @once
    def run(x, t):
        strong, weak = gaussian_teacher(), gaussian_teacher(mean=0.0)
        teachers = Autoguided(strong, strong, scale), Autoguided(strong, weak, scale)
        assert teachers[1].path == TrigPath()
        return [given.velocity(x, t) for given in (strong, weak, *teachers)]

    v, v_weak, same, moved = run(normal(2), np.array(0.7))
    np.testing.assert_allclose(same, v, rtol=1e-9)
    np.testing.assert_allclose(moved - v, (scale - 1) * (v - v_weak), rtol=1e-7, atol=1e-12)


class Affine(eqx.Module):
    matrix: Array

    def __call__(self, x, s, t, cond=None):
        return self.matrix @ x * (1 + s)


@pytest.mark.parametrize("kind", ["map", "guided", "autoguided", "flow"])
def test_gradients_pass_through_a_teacher_to_its_input_and_not_to_its_parameters(kind, x64, normal):
    def value(matrix, x):
        t = jnp.asarray(0.3)
        teacher = MapTeacher(AverageVelocityMap(Affine(matrix), LinearPath()))
        if kind == "guided":
            teacher = Guided(teacher, 2.0, NULL)
        if kind == "autoguided":
            teacher = Autoguided(teacher, teacher, 2.0)
        if kind == "flow":
            return teacher.flow(x, t, jnp.asarray(0.1), stepping=FixedSteps("euler", 2))
        return teacher.velocity(x, t, at(1))

    x, matrix = normal(2), normal(2, 2)
    forward = once(jax.jacfwd(value, argnums=(0, 1)))(matrix, x)
    assert not np.any(forward[0])
    if kind == "flow":
        assert np.any(forward[1] != 0)
        return
    reverse = once(jax.jacrev(value, argnums=(0, 1)))(matrix, x)
    assert not np.any(reverse[0])
    for by_x in (forward[1], reverse[1]):
        np.testing.assert_allclose(by_x, 1.3 * matrix, rtol=1e-9)


def test_frozen_leaves_values_and_what_is_no_float_alone(normal):
    w = normal(3)
    tree = {"w": jax.device_put(w), "n": jax.device_put(np.arange(2)), "name": "x", "f": 0.5}
    same = frozen(tree)
    np.testing.assert_array_equal(same["w"], w)
    np.testing.assert_array_equal(same["n"], tree["n"])
    assert same["name"] == "x" and same["f"] == 0.5
    gradient = once(jax.grad(lambda w: jnp.sum(w * frozen({"w": w})["w"])))(w)
    np.testing.assert_allclose(gradient, w)  # of one factor only
