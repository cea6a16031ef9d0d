"""Every registered method: the exact map is its fixed point, gradients go where they should."""

import dataclasses
import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from core.conformance import E0_BOUND, ORDER_BOUND, P0_BOUND, check_plugin
from core.conformance import rows as conformance
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher, frozen
from core.methods.plugin import Task
from core.methods.registry import find_plugin, plugins
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Batch
from core.objectives.rows import RowObjective
from tests.objectives.terms import TinyNet

importlib.import_module("plugins")
NAMES = sorted(name for name, cls in plugins().items() if cls.__module__.startswith("plugins."))
VARIANTS = {
    f"{name} {variant}".strip(): flags
    for name in NAMES
    for variant, flags in find_plugin(name).variants().items()
}
BOUNDS = {"P0": P0_BOUND, "E0": E0_BOUND}
APPROXIMATE = {
    "ct": 2, "cd": 3, "ctm": 3, "ict": 2, "ect": 2, "imm": 2, "cmt": 2, "gcm-cu": 1, "gcm-vu": 1,
    "gcm-cu moments": 1, "gcm-vu moments": 1, "soflow": 1, "pid": 1, "boot": 2, "freeflow": 1,
    "ctm-scratch": 3, "alphaflow": 1,
}  # fmt: skip


ROWS = {"fdloss": 8192, "imf guided": 1024}
"""More rows where the control needs them: half of them fill the population. Fewer where each
row is solved for many times."""

SAME_RESIDUALS = {"dmf", "ict", "ect", "gcm-cu", "gcm-cu exact", "gcm-cu moments", "ctm endpoint"}
SAME_RESIDUALS |= {"ctm combined", "ctm-scratch", "ctm-scratch endpoint", "alphaflow", "gcm-vu"}
SAME_RESIDUALS |= {"mf guided"}
"""Variants whose terms are those of another one that is checked here; `apps.check` takes all."""


SLOW = {"imf guided", "gft", "dmd", "drift", "drift no-columns", "adversarial", "fdloss"}
SLOW |= {"ctm-scratch jumps", "mfm", "vfm"}
CHECKED = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW))
    for name in sorted(set(VARIANTS) - SAME_RESIDUALS)
]


@pytest.mark.parametrize("name", CHECKED)
def test_the_exact_map_is_a_fixed_point_and_a_wrong_one_is_not(name, x64, monkeypatch):
    problem = conformance.problems()["mixture"]
    monkeypatch.setattr(conformance, "problems", lambda: {"mixture": problem})
    monkeypatch.setattr(conformance, "ORDER_ROWS", 64)
    monkeypatch.setattr(conformance, "STEPS", conformance.STEPS[1:])
    checks = check_plugin(VARIANTS[name], LinearPath(), rows=ROWS.get(name, 2048))
    assert checks
    for check in checks:
        assert check.value <= check.bound < check.control, check
        assert check.bound == BOUNDS.get(check.kind, ORDER_BOUND)
    orders = {f"O(h^{APPROXIMATE[name]})"} if name in APPROXIMATE else set()
    assert {check.kind for check in checks} - {"P0", "E0"} == orders


def built(name, **flags):
    """A method around small random networks, its players, its teacher's map and a batch."""
    keys = jr.split(jr.key(3), 4)
    path = LinearPath()
    taught = AverageVelocityMap(TinyNet((2,), key=keys[0]), path)
    plugin = dataclasses.replace(find_plugin(name).preset("points"), **flags)
    task = Task((2,), "points", 3 if plugin.guided else 0, 10)
    method = plugin.method(TinyNet((2,), key=keys[1]), path, MapTeacher(taught), task, key=keys[2])
    label = jnp.arange(16) % 3 if plugin.guided else None
    batch = Batch(jr.normal(keys[3], (16, 2)), label)
    return method, {"model": method.flow_map, **method.players}, batch


def sizes(tree):
    return {k: float(sum(jnp.sum(jnp.abs(a)) for a in jax.tree.leaves(t))) for k, t in tree.items()}


def warmed(objective, players, batch):
    """What the objective carries after a step; None of those that carry nothing."""
    carry = objective.init(players)
    if not jax.tree.leaves(carry):
        return carry
    return objective(players, frozen(players), carry, batch, jr.key(0), jnp.asarray(0))[1]


SAME_TERMS = {
    "fm", "reflow", "tvm", "splitmf", "pd", "pfmm", "ict", "ect", "gcm-cu", "cct", "ccd", "dmf",
    "rwfm", "mfm",
}  # fmt: skip
"""Methods whose residuals are those of another one, with other times or targets."""


@pytest.mark.parametrize("name", sorted(set(NAMES) - SAME_TERMS))
def test_gradients_reach_the_players_and_nothing_else(name):
    """Each loss moves its own player, and none the teacher or the parameters of targets."""
    method, players, batch = built(name)
    trained, static = eqx.partition(players, eqx.is_inexact_array)
    trained = jax.tree.map(lambda leaf: 1.1 * leaf, trained)  # a player may start as the teacher
    target, target_static = eqx.partition(players, eqx.is_inexact_array)
    fixed, objective_static = eqx.partition(method.objective, eqx.is_inexact_array)
    carry = warmed(method.objective, players, batch)

    def losses(trained, target, fixed):
        objective = eqx.combine(fixed, objective_static)
        stopped = frozen(eqx.combine(target, target_static))
        step = jnp.asarray(4)
        return objective(eqx.combine(trained, static), stopped, carry, batch, jr.key(1), step)[0]

    gradients = jax.jit(jax.jacrev(losses, (0, 1, 2)))(trained, target, fixed)
    assert set(gradients) == set(players)
    for loss, (own, targets, constants) in gradients.items():
        reached = sizes(own)
        assert reached.pop(loss) > 0
        assert not any(reached.values()) and not any(sizes(targets).values())
        assert not any(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(constants))


def jump_gradient(term, model, row):
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(arrays, stopped):
        player = eqx.combine(arrays, static)
        (residual, *_) = term.residuals({"model": player}, {"model": frozen(model)}, row)["model"]
        return jnp.sum(residual * jax.lax.stop_gradient(residual)) if stopped else 0.0

    return jax.grad(loss)(arrays, True)


FLOWS = {"lmd": 1, "lsd": 1, "emd": 1, "ayf-lmd": 0, "ayf-emd": 0, "mf": 0}


@pytest.mark.parametrize("name, flows", FLOWS.items())
def test_the_gradient_passes_through_the_derivative_where_the_method_says_so(name, flows, x64):
    """Where it does not, the residual's gradient is that of the average velocity alone."""
    method, players, batch = built(name)
    objective = method.objective
    assert isinstance(objective, RowObjective)
    kind = objective.kinds[-1]
    rows = objective.rows(kind, batch, jr.key(2), jnp.asarray(10))
    row = jax.tree.map(lambda leaf: leaf[0], rows)
    model = players["model"]
    whole = jump_gradient(kind.term, model, row)
    (residual, *_) = kind.term.residuals(players, frozen(players), row)["model"]
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    def value_only(arrays):
        V = eqx.combine(arrays, static).average_velocity(row.x_s, row.s, row.t)
        return jnp.sum(V * residual)

    alone = jax.grad(value_only)(arrays)
    same = all(jnp.allclose(a, b) for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(alone)))
    assert same != flows


@pytest.mark.parametrize("name", NAMES)
def test_presets_of_all_recipes_build_and_their_costs_are_those_of_their_rows(name):
    cls = find_plugin(name)
    for kind in ("points", "small-image", "image"):
        plugin = cls.preset(kind)
        method = plugin.method(
            TinyNet((2,), key=jr.key(0)),
            LinearPath(),
            MapTeacher(exact()),
            Task((2,), num_classes=3 if plugin.guided else 0),
            key=jr.key(1),
        )
        if issubclass(cls, RowPlugin):
            objective: Any = method.objective  # of vfm it is a part
            rows = objective if isinstance(objective, RowObjective) else objective.rows
            assert sum(kind.share for kind in rows.kinds) == pytest.approx(1)
    assert cls.card.cost > 0 and cls.card.source


def exact():
    return AverageVelocityMap(TinyNet((2,), key=jr.key(9)), LinearPath())
