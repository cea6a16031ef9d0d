"""Every registered method: the exact map is its fixed point, gradients go where they should."""

import dataclasses
import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import E0_BOUND, ORDER_BOUND, P0_BOUND, STEPS, check_plugin, problems
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher, frozen
from core.methods.plugin import Task
from core.methods.registry import find_plugin, plugins
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Batch
from core.objectives.rows import RowObjective
from tests.compiling import once
from tests.objectives.terms import TinyNet
from tests.reach import reached

importlib.import_module("plugins")
OURS = {name: cls for name, cls in plugins().items() if cls.__module__.startswith("plugins.")}
NAMES = sorted(name for name, cls in OURS.items() if not cls.tokens)
"""Those of tokens are in `test_categorical.py`."""
VARIANTS = {
    f"{name} {variant}".strip(): flags
    for name in NAMES
    for variant, flags in find_plugin(name).variants().items()
}
BOUNDS = {"P0": P0_BOUND, "E0": E0_BOUND}
APPROXIMATE = {
    "ct": 2, "cd": 3, "ctm": 3, "ict": 2, "ect": 2, "imm": 2, "cmt": 2, "gcm-cu": 1, "gcm-vu": 1,
    "gcm-cu moments": 1, "gcm-vu moments": 1, "soflow": 1, "pid": 1, "boot": 2, "freeflow": 1,
    "ctm-scratch": 3, "alphaflow": 1, "alphaflow exact": 1, "soflow exact": 1,
}  # fmt: skip


ROWS = {"fdloss": 8192, "falcon": 8192, "imf guided": 1024, "self-e": 1024}
"""More rows where the control needs them: half of them fill the population. Fewer where each
row is solved for many times."""

SAME_RESIDUALS = {"dmf", "ict", "ect", "gcm-cu", "gcm-cu exact", "gcm-cu moments", "ctm endpoint"}
SAME_RESIDUALS |= {"ctm combined", "ctm-scratch", "ctm-scratch endpoint", "alphaflow", "gcm-vu"}
SAME_RESIDUALS |= {"mf guided", "alphaflow exact", "f2d2", "self-e normalised"}
"""Variants whose terms are those of another one that is checked here; `apps.check` takes all."""

BIASED = {"self-e"}
"""Methods whose jumps do not rest at the exact map."""

CHECKED = sorted(set(VARIANTS) - SAME_RESIDUALS)
SLOW = {"imf guided", "gft", "dmd", "drift", "drift no-columns", "adversarial", "fdloss"}
SLOW |= {"ctm-scratch jumps", "mfm", "vfm", "moment", "moment middle", "cafm"}
SLOW |= {"self-e", "pi-flow", "sid"}
"""Not quick on any data."""
LONG = {"kd", "moment", "moment middle", "sid", "self-e", "pi-flow", "cafm"}
"""Long on the mixture, and slow on the Gaussian where they are checked there."""
ON_MIXTURE = {"fm", "shortcut", "ct", "soflow", "boot", "imf boundary"}
"""One of each family, some with an order: the quick tests take these on the mixture, whose exact
map is compiled for five seconds, and all others on the Gaussian. The slow ones take all."""


def long(name):
    return [pytest.mark.long] * (name in LONG)


def check(name, problem):
    checks = check_plugin(
        VARIANTS[name],
        LinearPath(),
        problems={problem: problems()[problem]},
        rows=ROWS.get(name, 2048),
        order_rows=64,
        steps=STEPS[1:],
    )
    assert checks
    for check in checks:
        assert check.biased == (name in BIASED and "jump" in check.name)
        assert check.biased or check.value <= check.bound < check.control, check
        assert check.bound == BOUNDS.get(check.kind, ORDER_BOUND)
    return {check.kind for check in checks} - {"P0", "E0"}


@pytest.mark.programs(96)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[] if n in ON_MIXTURE else [pytest.mark.slow, *long(n)])
        for n in CHECKED
    ],
)
def test_the_exact_map_is_a_fixed_point_and_a_wrong_one_is_not(name, x64):
    """On a skewed mixture, where rules with a finite step have their order."""
    order = {f"O(h^{APPROXIMATE[name]})"} if name in APPROXIMATE else set()
    assert check(name, "mixture") == order


@pytest.mark.programs(80)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] * (n in LONG))
        for n in sorted(set(CHECKED) - SLOW - ON_MIXTURE - set(APPROXIMATE))
    ],
)
def test_the_exact_map_of_a_gaussian_is_a_fixed_point_and_a_wrong_one_is_not(name, x64):
    assert not check(name, "gaussian")


def normal(shape):
    drawn = np.random.default_rng(3).standard_normal(shape)
    return drawn.astype(jax.dtypes.canonicalize_dtype(float))


def built(name, **flags):
    """A method around small random networks, its players, its teacher's map and a batch."""
    keys = jr.split(jr.key(3), 3)
    path = LinearPath()
    taught = AverageVelocityMap(TinyNet((2,), key=keys[0]), path)
    plugin = dataclasses.replace(find_plugin(name).preset("points"), **flags)
    labels = plugin.guided or plugin.labelled
    task = Task((2,), "points", 3 if labels else 0, 10)
    method = plugin.method(TinyNet((2,), key=keys[1]), path, MapTeacher(taught), task, key=keys[2])
    label = jax.device_put(np.arange(16, dtype=np.int32) % 3) if labels else None
    batch = Batch(jax.device_put(normal((16, 2))), label)
    return method, {"model": method.flow_map, **method.players}, batch


def sizes(tree):
    return {k: float(sum(jnp.sum(jnp.abs(a)) for a in jax.tree.leaves(t))) for k, t in tree.items()}


def warmed(objective, players, batch):
    """What the objective carries after a step; None of those that carry nothing."""
    carry = objective.init(players)
    if not jax.tree.leaves(carry):
        return carry
    run = eqx.filter_jit(objective)
    return run(players, frozen(players), carry, batch, jr.key(0), jnp.asarray(0))[1]


SAME_TERMS = {
    "fm", "reflow", "tvm", "splitmf", "pd", "pfmm", "ict", "ect", "gcm-cu", "cct", "ccd", "dmf",
    "rwfm", "mfm",
}  # fmt: skip
"""Methods whose residuals are those of another one, with other times or targets."""


WITH_TERMS = sorted(set(NAMES) - SAME_TERMS)


def losses_of(name, carried=lambda objective, players, batch: objective.init(players)):
    """The losses of a method as a function of the trained players, the target's and constants."""
    method, players, batch = built(name)
    trained, static = eqx.partition(players, eqx.is_inexact_array)
    target, target_static = eqx.partition(players, eqx.is_inexact_array)
    fixed, objective_static = eqx.partition(method.objective, eqx.is_inexact_array)
    carry = carried(method.objective, players, batch)

    def losses(trained, target, fixed):
        objective = eqx.combine(fixed, objective_static)
        stopped = frozen(eqx.combine(target, target_static))
        step = jnp.asarray(9)  # one in which every player learns
        return objective(eqx.combine(trained, static), stopped, carry, batch, jr.key(1), step)[0]

    return losses, trained, target, fixed


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.long] * (n in ("pi-flow", "cafm"))) for n in WITH_TERMS],
)
def test_gradients_can_reach_the_players_and_nothing_else(name):
    """Each loss moves its own player, and none the teacher or the parameters of targets."""
    losses, *arguments = losses_of(name)
    found = reached(losses, *arguments)
    assert set(found) == set(arguments[0])
    for loss, leaves in found.items():
        assert leaves and all(leaf.startswith(f"[0]['{loss}']") for leaf in leaves), leaves


BY_VALUE = {"mf", "imf", "lmd", "psd", "ct", "ctm-scratch", "dmd", "drift", "adversarial", "fdloss"}
"""In the slow set: one of each family, and all that have several players. The long one has all."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] * (n not in BY_VALUE)) for n in WITH_TERMS]
)
def test_gradients_reach_the_players_and_nothing_else(name):
    """The same by their values."""
    losses, trained, target, fixed = losses_of(name, warmed)
    trained = jax.tree.map(lambda leaf: 1.1 * leaf, trained)  # a player may start as the teacher
    gradients = jax.jit(jax.jacrev(losses, (0, 1, 2)))(trained, target, fixed)
    assert set(gradients) == set(trained)
    for loss, (own, targets, constants) in gradients.items():
        reached = sizes(own)
        assert reached.pop(loss) > 0
        assert not any(reached.values()) and not any(sizes(targets).values())
        assert not any(bool(jnp.any(leaf)) for leaf in jax.tree.leaves(constants))


FLOWS = {"lmd": 1, "lsd": 1, "emd": 1, "ayf-lmd": 0, "ayf-emd": 0, "mf": 0}


@pytest.mark.programs(30)
@pytest.mark.parametrize("name, flows", FLOWS.items())
def test_the_gradient_passes_through_the_derivative_where_the_method_says_so(name, flows, x64):
    """Where it does not, the residual's gradient is that of the average velocity alone."""
    method, players, batch = built(name)
    objective = method.objective
    assert isinstance(objective, RowObjective)
    kind = objective.kinds[-1]
    arrays, static = eqx.partition(players["model"], eqx.is_inexact_array)

    @once
    def both(arrays, batch):
        rows = objective.rows(kind, batch, jr.key(2), jnp.asarray(10))
        row = jax.tree.map(lambda leaf: leaf[0], rows)
        stopped = {"model": frozen(players["model"])}

        def residual(arrays):
            now = {**players, "model": eqx.combine(arrays, static)}
            return kind.term.residuals(now, stopped, row)["model"][0]

        constant = jax.lax.stop_gradient(residual(arrays))

        def value(arrays):
            return eqx.combine(arrays, static).average_velocity(row.x_s, row.s, row.t)

        return [jax.grad(lambda a: jnp.sum(f(a) * constant))(arrays) for f in (residual, value)]

    whole, alone = (jax.tree.leaves(tree) for tree in both(arrays, batch))
    same = all(np.allclose(a, b, rtol=1e-5, atol=1e-8) for a, b in zip(whole, alone, strict=True))
    assert same != flows


@pytest.mark.parametrize("name", NAMES)
def test_presets_of_all_recipes_build_with_the_share_of_the_diagonal_that_their_flag_says(name):
    for kind in ("points", "small-image", "image"):
        plugin: Any = find_plugin(name).preset(kind)
        method = plugin.method(
            TinyNet((2,), key=jr.key(0)),
            LinearPath(),
            MapTeacher(exact()),
            Task((2,), num_classes=3 if plugin.guided else 0),
            key=jr.key(1),
        )
        if isinstance(plugin, RowPlugin):
            objective: Any = method.objective  # of vfm it is a part
            rows = objective if isinstance(objective, RowObjective) else objective.rows
            shares = {kind.name: kind.share for kind in rows.kinds}
            if "diagonal" in shares:  # some have kinds of their own
                assert shares["diagonal"] == pytest.approx(plugin.diagonal)


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_on_a_card_is_at_most_its_count_where_every_row_pays_for_every_term(name):
    """The card's figures against each other. `tests/methods/test_cost.py` and `apps.cost` hold them
    against the operations of the compiled program."""
    cls = find_plugin(name)
    assert 3 <= cls.card.cost <= (cls.card.whole_cost or float("inf")) and cls.card.source


def exact():
    return AverageVelocityMap(TinyNet((2,), key=jr.key(9)), LinearPath())


BOTH_WAYS = [
    name
    for name in NAMES
    if issubclass(find_plugin(name), RowPlugin) and find_plugin(name).both_ways
]


@pytest.mark.long
@pytest.mark.parametrize("name", BOTH_WAYS)
def test_jumps_towards_noise_have_the_exact_map_as_their_fixed_point(name, x64):
    plugin = dataclasses.replace(find_plugin(name).preset("points"), both=1.0)
    mixture = {"mixture": problems()["mixture"]}
    checks = check_plugin(plugin, LinearPath(), problems=mixture, rows=2048)
    assert checks and all(check.passed for check in checks), checks


@pytest.mark.parametrize("name", ["pd", "ict", "shortcut"])
def test_methods_that_go_one_way_refuse_the_other(name):
    plugin = dataclasses.replace(find_plugin(name).preset("points"), both=0.5)
    with pytest.raises(UserError, match="--plugin.both"):
        plugin.row_objective(LinearPath(), MapTeacher(exact()), Task((2,), "points", 0))
