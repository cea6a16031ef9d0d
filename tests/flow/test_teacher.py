"""Teachers: velocities, guidance, and that no gradient reaches their parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import Array, Float

from core.conformance import problems
from core.flow.condition import Condition
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath, Path, TrigPath
from core.flow.solve import FixedSteps
from core.flow.teacher import Autoguided, Guided, MapTeacher, Teacher, frozen
from core.oracle import GaussianProblem, OracleMap

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


def test_a_maps_diagonal_teaches_the_marginal_velocity(x64, getkey):
    for name, problem in problems().items():
        teacher = MapTeacher(OracleMap(problem, LinearPath()))
        x, t = jr.normal(getkey(), problem.shape), jnp.asarray(0.4)
        assert jnp.allclose(teacher.velocity(x, t), problem.velocity(LinearPath(), x, t)), name
        assert teacher.path == LinearPath()


def test_the_flow_is_the_exact_map_and_comes_back(x64, getkey):
    teacher = gaussian_teacher()
    x, s, t = jr.normal(getkey(), (2,)), jnp.asarray(1.4), jnp.asarray(0.1)
    there = teacher.flow(x, s, t)
    assert jnp.allclose(there, teacher.flow_map(x, s, t), atol=1e-4)
    assert jnp.allclose(teacher.flow(there, t, s), x, atol=1e-4)
    assert jnp.linalg.norm(there - x) > 0.1
    few = teacher.flow(x, s, t, method=FixedSteps("euler", 4))
    assert jnp.linalg.norm(few - there) > 1e-2


@pytest.mark.parametrize("scale", [1.0, 1.5, 3.0])
def test_guidance_extrapolates_from_the_null_class_inside_its_interval(scale, x64, getkey):
    teacher = Guided(ByClass(), scale, NULL, (0.2, 0.6))
    x = jr.normal(getkey(), (4,))
    for time, inside in ((0.1, False), (0.2, True), (0.4, True), (0.6, True), (0.7, False)):
        t = jnp.asarray(time)
        v_cond, v_null = jnp.sin(x + 1) * (1 + t), jnp.sin(x + NULL) * (1 + t)
        guided = scale * v_cond + (1 - scale) * v_null
        assert jnp.allclose(teacher.velocity(x, t, at(1)), guided if inside else v_cond)
        assert jnp.allclose(teacher.velocity(x, t, at(NULL)), v_null)


def test_guidance_acts_at_all_times_by_default(x64, getkey):
    teacher, x, t = (
        Guided(ByClass(), 2.0, NULL),
        jr.normal(getkey(), (4,)),
        jnp.asarray(80.0),
    )
    doubled = 2 * jnp.sin(x + 1) * (1 + t) - jnp.sin(x + NULL) * (1 + t)
    assert jnp.allclose(teacher.velocity(x, t, at(1)), doubled)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.1])
def test_autoguidance_by_an_equal_teacher_changes_nothing(scale, x64, getkey):
    strong = gaussian_teacher()
    x, t = jr.normal(getkey(), (2,)), jnp.asarray(0.7)
    v = strong.velocity(x, t)
    assert jnp.allclose(Autoguided(strong, strong, scale).velocity(x, t), v)
    weak = gaussian_teacher(mean=0.0)
    moved = Autoguided(strong, weak, scale).velocity(x, t) - v
    assert jnp.allclose(moved, (scale - 1) * (v - weak.velocity(x, t)))
    assert Autoguided(strong, weak, scale).path == TrigPath()


class Affine(eqx.Module):
    matrix: Array

    def __call__(self, x, s, t, cond=None):
        return self.matrix @ x * (1 + s)


@pytest.mark.parametrize("kind", ["map", "guided", "autoguided", "flow"])
def test_gradients_pass_through_a_teacher_to_its_input_and_not_to_its_parameters(kind, x64, getkey):
    x, t = jr.normal(getkey(), (2,)), jnp.asarray(0.3)

    def value(matrix, x):
        teacher = MapTeacher(AverageVelocityMap(Affine(matrix), LinearPath()))
        if kind == "guided":
            teacher = Guided(teacher, 2.0, NULL)
        if kind == "autoguided":
            teacher = Autoguided(teacher, teacher, 2.0)
        if kind == "flow":
            return teacher.flow(x, t, jnp.asarray(0.1), method=FixedSteps("euler", 2))
        return teacher.velocity(x, t, at(1))

    matrix = jr.normal(getkey(), (2, 2))
    by_matrix, by_x = jax.jacfwd(value, argnums=(0, 1))(matrix, x)
    assert not jnp.any(by_matrix)
    if kind != "flow":
        assert jnp.allclose(by_x, 1.3 * matrix)
        reverse = jax.jacrev(value, argnums=(0, 1))(matrix, x)
        assert not jnp.any(reverse[0]) and jnp.allclose(reverse[1], by_x)
    else:
        assert jnp.any(by_x != 0)


def test_frozen_leaves_values_and_what_is_no_float_alone(getkey):
    tree = {"w": jr.normal(getkey(), (3,)), "n": jnp.arange(2), "name": "x", "f": 0.5}
    same = frozen(tree)
    assert jnp.array_equal(same["w"], tree["w"]) and jnp.array_equal(same["n"], tree["n"])
    assert same["name"] == "x" and same["f"] == 0.5
    gradient = jax.grad(lambda w: jnp.sum(w * frozen({"w": w})["w"]))(tree["w"])
    assert jnp.allclose(gradient, tree["w"])  # of one factor only
