"""The weights of one map inside another: by name, with inputs that enter at zero, in any form."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.change import MovedMap
from core.flow.flow_map import AverageVelocityMap, DataEndMap, EndpointMap, RotationMap
from core.flow.path import CosinePath, LinearPath, TrigPath
from core.methods.warm_start import unlike, warm_started
from core.nets import DiTConfig, OfficialDiTConfig
from core.nets.native import flow_map_of
from tests.compiling import once
from tests.nets.randomised import given, randomised

pytestmark = pytest.mark.programs(60)  # networks are built, and weights copied

SHAPE = (4, 4, 1)
SIT = OfficialDiTConfig(width=8, depth=1, heads=2, frequencies=4, times="s", clock="reversed")
STUDENT = SIT.as_student("linear-velocity")
OWN = DiTConfig(width=8, depth=1, heads=2, frequencies=4)


def source(config=SIT, path=LinearPath()):
    """The map of a trained network."""
    return AverageVelocityMap(net=randomised(config, SHAPE, 3, jr.key(1)), path=path)


def student(config=STUDENT, form=AverageVelocityMap, path=LinearPath()):
    """A map with a network as it is built, which is zero."""
    return form(net=config.build(SHAPE, 3, key=jr.key(0)), path=path)


@pytest.mark.slow
def test_a_student_is_its_teacher_on_the_diagonal_on_another_path_in_another_form(normal, rng):
    teacher, path = source(), TrigPath()
    guided = dataclasses.replace(STUDENT, guidance=True)
    maps = [
        warm_started(MovedMap(teacher, path), student(config, form, path))
        for config in (STUDENT, guided)
        for form in (AverageVelocityMap, RotationMap, EndpointMap)
    ]
    assert None not in maps
    x, t = normal(4, *SHAPE), np.float32(rng.uniform(0.1, 1.5, 4))

    def run(maps, x, t):
        cond = given(1, (3.0, 0.0, 1.0))
        exact = MovedMap(teacher, path).velocity(x, t, given(1))
        return [one.velocity(x, t, cond) - exact for one in maps], exact

    found, exact = once(jax.vmap(run, in_axes=(None, 0, 0)))(maps, x, t)
    assert np.abs(exact).max() > 0.1 and np.abs(found).max() < 2e-5


def other(config):
    """A map with other weights, of which none is zero."""
    return AverageVelocityMap(net=randomised(config, SHAPE, 3, jr.key(2)), path=LinearPath())


def same(one, another):
    assert jax.tree.structure(one) == jax.tree.structure(another)
    for leaf, expected in zip(jax.tree.leaves(one), jax.tree.leaves(another)):
        np.testing.assert_array_equal(leaf, expected)


def test_maps_of_the_same_network_and_form_keep_their_bits():
    teacher = source()
    same(warm_started(teacher, other(SIT)), teacher)
    end = warm_started(DataEndMap.of(teacher), DataEndMap.of(other(SIT)))
    assert isinstance(end, DataEndMap)
    same(end.flow_map, teacher)


def test_our_own_network_receives_guidance_later(normal):
    """Its embedding has the other numbers of the source, and zeros for the guidance."""
    teacher = source(OWN)
    found = warm_started(teacher, other(dataclasses.replace(OWN, guidance=True)))
    x = normal(4, *SHAPE)

    def run(teacher, found, x):
        at = jnp.asarray(0.8), jnp.asarray(0.3)
        return teacher.average_velocity(x, *at, given(1)), found.average_velocity(
            x, *at, given(1, (3.0, 0.0, 1.0))
        )

    expected, value = once(jax.vmap(run, in_axes=(None, None, 0)))(teacher, found, x)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "there, here, message",
    [
        (SIT, dataclasses.replace(STUDENT, width=16), "config.width 8 there, 16 here"),
        (SIT, dataclasses.replace(SIT, times="s,s-t"), "config.times s there, s,s-t here"),
        (STUDENT, SIT, "later.step.inputs.0.weight is not here"),
        (SIT, OWN, "OfficialDiT there, DiT here"),
        (SIT, STUDENT.as_student("noise"), "linear-velocity there, noise here"),
        (SIT, dataclasses.replace(STUDENT, clock="unit"), "config.clock reversed there, unit here"),
        (OWN, dataclasses.replace(OWN, state=True), "embedding.state False there, True here"),
    ],
)
def test_what_differs_is_named(there, here, message):
    maps = [eqx.filter_eval_shape(lambda one=one: student(one)) for one in (there, here)]
    assert warm_started(*maps) is None
    assert message in "; ".join(unlike(*maps))


def test_a_shape_that_differs_is_named_with_both():
    fewer = AverageVelocityMap(net=randomised(SIT, SHAPE, 2, jr.key(0)), path=LinearPath())
    assert unlike(source(), fewer) == ["conditioning.labels is (4, 8) there, (3, 8) here"]
    assert warm_started(source(), fewer) is None


@pytest.mark.slow
def test_noise_at_the_steps_of_diffusion_starts_a_student_too(normal, rng):
    config = dataclasses.replace(SIT, clock="linear 0.0001 0.02 1000")
    net = randomised(config, SHAPE, 3, jr.key(1))
    teacher = flow_map_of(net, CosinePath(), config.clock, "noise")
    begun = warm_started(teacher, student(config.as_student("noise"), path=teacher.path))
    assert begun is not None
    x, t = normal(4, *SHAPE), np.float32(rng.uniform(0.1, 0.9, 4))
    velocities = lambda maps, x, t: [one.velocity(x, t, given(1)) for one in maps]  # noqa: E731
    exact, found = once(jax.vmap(velocities, in_axes=(None, 0, 0)))([teacher, begun], x, t)
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
