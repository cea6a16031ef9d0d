"""Perceptual distances: their value, what methods compare, and where the gradient flows."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance.gradients import gradient_checks
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher
from core.methods.plugin import Task
from core.methods.registry import find_plugin
from core.nets.perception import Identity, Perception
from core.objectives.objective import FlowMatching
from core.objectives.perceptual import Denoised, Perceptual, seen
from core.objectives.row import make_row
from plugins.consistency.jump import ConsistencyJump, SameNoise
from plugins.consistency.trajectory.jump import TrajectoryJump
from plugins.consistency.trajectory.segment import Jumped
from plugins.lagrangian.pid import PhysicsDerivative, PhysicsInformed
from tests.compiling import once
from tests.objectives.terms import TinyNet

LINEAR = LinearPath()
METHODS = ("cd", "ct", "ctm", "pid", "pmf")


class Waves(Perception):
    """A map of one place, and one of as many as there are numbers."""

    def maps(self, x):
        flat = x.reshape(-1)
        whole = jnp.stack([jnp.cos(flat).sum(), jnp.sin(2 * flat).sum(), 1 + flat[0] ** 2])
        each = jnp.stack([flat, 1 + flat**2], axis=1)
        return flat[None], whole[None], each

    def vector(self, x):
        return x.reshape(-1)


def test_the_distance_is_that_of_unit_channels(normal):
    """LPIPS' first equation with even weights, written out."""
    x, y = normal(5), normal(5)
    a, b = once(lambda x, y: (seen(Waves(), x), seen(Waves(), y)))(x, y)
    expected = []
    for flat in (x, y):
        whole = np.array([[np.cos(flat).sum(), np.sin(2 * flat).sum(), 1 + flat[0] ** 2]])
        each = np.stack([flat, 1 + flat**2], axis=1)
        expected.append([m / np.linalg.norm(m, axis=1, keepdims=True) for m in (whole, each)])
    apart = [np.sum((p - q) ** 2, axis=1).mean() for p, q in zip(*expected)]
    np.testing.assert_allclose(np.sum((a - b) ** 2), np.mean(apart), rtol=1e-5)


def compared(term, look, row_times=(0.9, 0.6, 0.3)):
    """What a `Perceptual` term says of a row, and what `look(model, target, row)` does."""
    keys = jr.split(jr.key(0), 4)
    model, target = (AverageVelocityMap(TinyNet((3,), key=k), LINEAR) for k in keys[:2])

    @once
    def run(model, target, s, u, t):
        x_0, z = jr.normal(keys[2], (2, 3))
        row = make_row(LINEAR, x_0, z, s, t, None, keys[3], u=u)
        plain, found = Perceptual(term, Waves())(model, target, row)
        here, wanted = look(model, target, row)
        return plain, term(model, target, row), found, seen(Waves(), here) - seen(Waves(), wanted)

    plain, residual, found, expected = run(model, target, *map(jnp.asarray, row_times))
    np.testing.assert_array_equal(plain, residual)
    assert np.abs(expected).max() > 1e-2
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_consistency_compares_both_ends():
    def look(model, target, row):
        x_u = (1 - row.u) * row.x_0 + row.u * row.z
        return model(row.x_s, row.s, row.t), target(x_u, row.u, row.t)

    compared(ConsistencyJump(SameNoise()), look)


def test_trajectories_are_compared_at_the_data_end():
    term = TrajectoryJump(Jumped())
    compared(term, lambda model, target, row: term.ends(model, target, row))


def test_velocities_are_compared_as_denoised_examples():
    def look(model, target, row):
        return row.x_s - row.s * model.velocity(row.x_s, row.s), row.x_0

    compared(Denoised(FlowMatching()), look)


@pytest.mark.parametrize("exact", [False, True])
def test_the_teacher_s_ode_is_compared_where_it_denoises_to(exact):
    """`D = x - t v` at the end of the student's jump: with its own rate and the teacher's
    velocity."""
    teacher = MapTeacher(AverageVelocityMap(TinyNet((3,), key=jr.key(7)), LINEAR))
    step = 1e-3

    def look(model, target, row):
        end, near = (model(row.x_s, row.s, row.t + h) for h in (0.0, step))
        rate = (near - end) / step
        if exact:
            to = lambda t: model(row.x_s, row.s, t)  # noqa: E731
            rate = jax.jvp(to, (row.t,), (jnp.ones_like(row.t),))[1]
        return end - row.t * rate, end - row.t * teacher.velocity(end, row.t)

    compared(PhysicsDerivative(teacher) if exact else PhysicsInformed(teacher, step), look)


@pytest.fixture
def waves(monkeypatch):
    """Every method that names features finds these."""
    for name in (*METHODS, "dmd"):
        module = find_plugin(name).__module__
        module = "plugins.consistency.trajectory.plugin" if name == "ctm" else module
        opened = lambda text, shape: {"waves": Waves(), "identity": Identity()}[text]  # noqa: E731
        monkeypatch.setattr(f"{module}.open_perception", opened)


@pytest.mark.long
@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_is_the_one_that_is_declared(name, waves, x64):
    """And so is that of the values beside it; stops taken out are noticed."""
    plugin = dataclasses.replace(find_plugin(name).preset("points"), features="waves", values=0.5)
    checks = gradient_checks(plugin, LINEAR, scales=(1.0,))
    assert checks and all(check.passed for check in checks), [c for c in checks if not c.passed]


def test_without_features_nothing_changes(waves):
    for name in METHODS:
        plugin = find_plugin(name).preset("points")
        teacher = MapTeacher(AverageVelocityMap(TinyNet((2,), key=jr.key(1)), LINEAR))
        given = teacher if plugin.needs_teacher else None
        kinds = plugin.kinds(given, Task((2,)))
        assert not any(isinstance(kind.term, Perceptual | Denoised) for kind in kinds)
        more = dataclasses.replace(plugin, features="waves").kinds(given, Task((2,)))
        assert isinstance(more[-1].term, Perceptual) and len(more[-1].weight) == 2


def test_what_does_not_go_together_is_refused(waves):
    dmd = find_plugin("dmd").preset("points")
    with pytest.raises(UserError, match="what the anchor looks at: set --plugin.anchor"):
        dataclasses.replace(dmd, features="waves")
    ctm = dataclasses.replace(find_plugin("ctm").preset("points"), features="waves", gan=1.0)
    with pytest.raises(UserError, match="of the plain loss: leave out --plugin.gan"):
        net = TinyNet((2,), key=jr.key(1))
        ctm.method(net, LINEAR, None, Task((2,)), key=jr.key(0))
