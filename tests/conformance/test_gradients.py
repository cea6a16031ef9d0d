"""G0: a gradient that flows where it should not, or numbers of the wrong map, are seen."""

import importlib
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array

from core.conformance import G0_BOUND, gradient_checks
from core.conformance.stops import masks, without_stops
from core.flow import rules
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import CosinePath, LinearPath
from core.methods.plugin import Method, Plugin
from core.methods.registry import find_plugin, plugins
from core.objectives.carriers import END_RATE, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.rows import RowObjective
from core.objectives.weights import Adaptive
from core.times.distributions import Uniform
from core.times.pairs import OrderedPair

importlib.import_module("plugins")


class Damaged(Term):
    """Lagrangian self-distillation with switches: how much of the gradient leaks through the stop,
    whether the model stands in the target's place, and the sign of its velocity."""

    leak: Array = field(default_factory=lambda: jnp.zeros(()))
    model_for_target: Array = field(default_factory=lambda: jnp.zeros(()))
    numbers: tuple[str, ...] = ("current", "target")

    @property
    def declares(self):
        return Declares((END_RATE,), self.numbers)

    def __call__(self, model, target, row):
        V, dV_dt = rules.lagrangian(model, row.x_s, row.s, row.t)
        gap, which = row.t - row.s, self.model_for_target
        given = row.x_s + gap * V, row.t
        v = (1 - which) * target.velocity(*given) + which * model.velocity(*given)
        number = jax.lax.stop_gradient(v)
        return V + gap * dV_dt - (number + self.leak * (v - number))


@dataclass(frozen=True)
class Alone(Plugin):
    """A method of one kind of rows, of another package: it says nothing but where gradients go."""

    term: Term = field(default_factory=Damaged)

    def method(self, net, path, teacher, task, *, key):
        times = OrderedPair(Uniform(), Uniform())
        kinds = (RowKind("jump", 1.0, times, self.term, Adaptive()),)
        return Method(AverageVelocityMap(net, path), RowObjective(path, kinds, task.num_classes))


def jump(**damage):
    (check,) = gradient_checks(Alone(Damaged(**damage)), LinearPath(), scales=(1.0,))
    return check


@pytest.mark.programs(80)
def test_a_leaking_stop_and_a_wrong_target_are_seen(x64):
    """At the exact map both are invisible: the residual is zero there, and the maps are one."""
    right = jump()
    assert right.passed and right.kind == "G0" and right.bound == G0_BOUND
    assert right.value < 1e-9 and right.control > 0.01
    leaking = jump(leak=jnp.ones(()))
    assert not leaking.passed and leaking.value > 0.01
    swapped = jump(model_for_target=jnp.ones(()))
    assert not swapped.passed and swapped.name.endswith("numbers of current")


@pytest.mark.slow
def test_numbers_that_are_not_declared_are_named(x64):
    check = jump(numbers=("target",))
    assert not check.passed and check.name.endswith("numbers of current, target")


def test_stops_are_taken_out_one_at_a_time():
    """`2 x + y + x y` in which `2 x`, `y` and the `x` of the product stop."""

    def f(x, y):
        stop = jax.lax.stop_gradient
        return stop(2 * x) + jax.jit(lambda y: stop(y))(y) + stop(x) * y

    def run(x, y):
        g, n = without_stops(f, x, y)
        slopes = jax.vmap(lambda mask: jnp.stack(jax.grad(lambda *p: g(mask, *p), (0, 1))(x, y)))
        return slopes(masks(n))

    found = jax.jit(run)(np.float32(3.0), np.float32(5.0))
    # By x and y: as it is, without any stop, without each.
    np.testing.assert_allclose(found, [[0, 3], [7, 4], [2, 3], [0, 4], [5, 3]])


VARIANTS = {
    f"{name} {variant}".strip(): flags
    for name, cls in sorted(plugins().items())
    if cls.__module__.startswith("plugins.")
    for variant, flags in find_plugin(name).variants().items()
}
FEW = {"ct", "esd"}
"""In the slow set; the long one has all."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in FEW)) for n in VARIANTS]
)
def test_every_method_has_the_gradient_that_it_declares(name, x64):
    """On a path whose rays turn at another rate than the linear one's too, with other data."""
    flags = VARIANTS[name]
    checks = gradient_checks(flags, LinearPath(), scales=(1.0,))
    if not flags.tokens:
        checks += gradient_checks(flags, CosinePath(), scales=(0.6,))
    for check in checks:
        assert check.value <= check.bound < check.control, check
