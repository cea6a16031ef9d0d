"""Guidance that is learned: one fixed point for every recipe, and who pays for what."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import classes
from core.errors import UserError
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import LinearPath
from core.flow.teacher import Autoguided, Guided, MapTeacher
from core.methods.plugin import Task
from core.methods.registry import find_plugin
from core.objectives.guidance import GuidanceConfig, Guide
from core.objectives.objective import Batch, FlowMatching, RowKind
from core.objectives.row import make_row
from core.objectives.rows import RowObjective
from core.oracle import GuidedOracle
from core.sampling import SAMPLERS, Drawing, generate
from core.times.distributions import Uniform
from core.times.pairs import Diagonal
from plugins.meanflow.head import HeadDiagonal
from tests.compiling import once
from tests.objectives.terms import TinyNet

PATH = LinearPath()
NULL = 2


def row_at(label, s=0.6, guidance=None):
    cond = Condition(jnp.asarray(label), guidance)
    times = jnp.asarray(s), jnp.asarray(0.2)
    return make_row(PATH, jnp.array([0.4]), jnp.array([-0.7]), *times, cond, jr.key(0))


def guided(config, target, row):
    guide = Guide(config, NULL)
    return guide(target, row, guide.null_velocity(target, row), False)


def marginal(oracle, row):
    label = row.cond.label
    return dataclasses.replace(row, v=oracle.marginal_velocity(row.x_s, row.s, label))


RECIPES = {"own": None, "TVM": 0.0, "MeanFlow": 0.5, "SoFlow": 0.75}


@pytest.mark.parametrize("own", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("drawn", [False, True])
def test_every_recipe_has_the_guided_velocity_for_its_fixed_point(own, drawn, x64):
    w = 2.5
    config = GuidanceConfig(scale=1.0 if drawn else w, most=4.0 if drawn else None, own=own)

    @once
    def run(distribution):
        oracle = GuidedOracle(distribution=distribution, path=PATH, scale=w)
        row = marginal(oracle, row_at(0, guidance=jnp.array([w, 0.0, 1.0]) if drawn else None))
        other = GuidedOracle(distribution=distribution, path=PATH, scale=2.0)
        return (
            guided(config, oracle, row).v,
            oracle.velocity(row.x_s, row.s, row.cond),
            oracle.marginal_velocity(row.x_s, row.s, 0),
            guided(config, other, row).v - other.velocity(row.x_s, row.s, row.cond),
        )

    target, velocity, unguided, wrong = run(classes())
    np.testing.assert_allclose(target, velocity, rtol=1e-12)
    assert abs(target[0] - unguided[0]) > 0.1  # guidance does something here
    if not drawn:  # a map that was guided otherwise is no fixed point
        assert abs(wrong[0]) > 0.03


@pytest.mark.parametrize(("omega", "kappa"), [(0.2, 0.92), (0.2, 0.5), (1.5, None)])
def test_meanflow_s_omega_and_kappa_are_the_shares_of_the_target(omega, kappa, x64):
    """Also where omega / (1 - kappa) is below 1; there too the guided velocity is left alone."""
    config = GuidanceConfig(omega=omega, own=kappa)
    kappa = kappa or 0.0
    assert config.on and config.learned == pytest.approx(omega / (1 - kappa))

    @once
    def run(distribution):
        oracle = GuidedOracle(distribution=distribution, path=PATH, scale=1.7)  # any network
        row = row_at(1)
        v_own = oracle.velocity(row.x_s, row.s, row.cond)
        v_null = oracle.velocity(row.x_s, row.s, Condition(jnp.asarray(NULL)))
        printed = omega * row.v + (1 - omega - kappa) * v_null + kappa * v_own
        exact = GuidedOracle(distribution=distribution, path=PATH, scale=config.learned)
        fixed = guided(config, exact, marginal(exact, row)).v
        velocity = exact.velocity(row.x_s, row.s, row.cond)
        return guided(config, oracle, row).v, printed, fixed, velocity

    found, printed, fixed, velocity = run(classes())
    np.testing.assert_allclose(found, printed, rtol=1e-12)
    np.testing.assert_allclose(fixed, velocity, rtol=1e-12)


def test_omega_is_given_instead_of_a_scale():
    for wrong in ({"scale": 2.0}, {"most": 4.0}):
        with pytest.raises(UserError, match=r"guidance\.omega sets the scale"):
            GuidanceConfig(omega=0.2, own=0.5, **wrong)


class TwoVoices(FlowMap):
    """`V = x` and a head that says `3 x` with a label and `-x` without."""

    path: LinearPath = LinearPath()

    def average_velocity(self, x, s, t, cond=None):
        return x

    def with_velocity(self, x, s, t, cond=None):
        return x, jnp.where(cond.label == NULL, -x, 3 * x)


@pytest.mark.parametrize("head", [False, True])
def test_the_network_s_share_of_the_target_is_the_diagonal_s_or_the_head_s(head, x64):
    """On jump rows, and on diagonal ones, whose term adds it itself."""
    w, k, model = 2.0, 0.5, TwoVoices()
    config = GuidanceConfig(scale=w, own=k, head=head)

    @once
    def run():
        row, guide = row_at(0), Guide(config, NULL)
        diagonal = guide(model, row, guide.null_velocity(model, row), True)
        residual = HeadDiagonal(head)(model, model, diagonal)[0]
        return guided(config, model, row).v, model.velocity(row.x_s, row.s) - residual, row

    found, on_diagonal, row = run()
    v_null, v_own = (-row.x_s, 3 * row.x_s) if head else (row.x_s, row.x_s)
    expected = (1 - k) * (w * row.v + (1 - w) * v_null) + k * v_own
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    np.testing.assert_allclose(on_diagonal, expected, rtol=1e-12)


def test_nothing_is_guided_outside_the_interval_or_without_a_label():
    config, outside = (
        GuidanceConfig(scale=3.0, interval=(0.3, 0.7)),
        [(NULL, 0.5), (0, 0.2), (0, 0.8)],
    )

    @once
    def run(distribution, label, s):
        oracle = GuidedOracle(distribution=distribution, path=PATH, scale=3.0)

        def both(label, s):
            row = row_at(label, s)
            return guided(config, oracle, row).v, row.v

        return jax.vmap(both)(label, s)

    cases = [*outside, (0, 0.5)]
    label = np.array([case[0] for case in cases], np.int32)
    s = np.array([case[1] for case in cases], np.float32)
    found, plain = run(classes(), label, s)
    np.testing.assert_array_equal(found[:3], plain[:3])
    assert abs(found[3, 0] - plain[3, 0]) > 0.1


def test_scales_follow_the_power_law_and_ends_lie_in_their_halves():
    drop, diagonal = np.arange(40_000) < 100, np.arange(40_000) % 2 == 0
    for tilt in (0.0, 1.0, 2.0):
        config = GuidanceConfig(most=8.0, tilt=tilt, interval=(0.2, 1.0), draw_interval=True)
        drawn = once(Guide(config, NULL).draw)(jr.key(0), drop, diagonal)
        assert drawn is not None
        np.testing.assert_allclose(drawn[:100], np.tile([1.0, 0.0, 1.0], (100, 1)))
        w, a, b = drawn[100:].T
        assert w.min() >= 1 and w.max() <= 8
        grid = np.linspace(1, 8, 200_001)
        mass = np.cumsum(grid**-tilt) / np.sum(grid**-tilt)
        for level in (2.0, 4.0):
            share = mass[np.searchsorted(grid, level)]
            assert np.mean(w < level) == pytest.approx(share, abs=4 * 0.5 / np.sqrt(len(w)))
        whole = diagonal[100:]
        np.testing.assert_allclose(a[whole], 0.2, atol=1e-6)
        np.testing.assert_allclose(b[whole], 1.0, atol=1e-6)
        assert a[~whole].min() < 0.21 and 0.59 < a[~whole].max() <= 0.6
        assert 0.6 <= b[~whole].min() < 0.61 and b[~whole].max() > 0.99


def test_a_fixed_number_of_rows_loses_its_label(normal):
    config = GuidanceConfig(most=4.0)
    kinds = (RowKind("diagonal", 1.0, Diagonal(Uniform()), FlowMatching()),)
    objective = RowObjective(PATH, kinds, NULL, 0.25, 1, Guide(config, NULL))

    @once
    def drawn(x_0, label, key):
        return objective.rows(kinds[0], Batch(x_0, label), key, jnp.asarray(0))

    rows = drawn(normal(8, 1), np.zeros(8, np.int32), jr.key(1))
    assert rows.cond is not None and rows.cond.guidance is not None
    np.testing.assert_array_equal(rows.cond.label, [NULL, NULL, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(rows.cond.guidance[:2, 0], [1, 1])
    assert np.all(np.asarray(rows.cond.guidance[2:, 0]) > 1)


def test_guidance_free_training_is_the_printed_square(x64):
    """`|beta V(c, beta) + (1 - beta) sg V(null) - v|^2` with `beta = 1 / w`."""
    method = find_plugin("gft").preset("points")
    method = method.method(
        TinyNet((1,), key=jr.key(0)), PATH, None, Task((1,), "points", NULL), key=jr.key(0)
    )
    objective = method.objective
    assert isinstance(objective, RowObjective)
    kind = objective.kinds[0]
    objective = dataclasses.replace(objective, label_drop=0.0)

    @once
    def run(distribution):
        oracle = GuidedOracle(distribution=distribution, path=PATH, scale=1.7)
        row = row_at(0, guidance=jnp.array([3.0, 0.0, 1.0]))
        rows = jax.tree.map(lambda leaf: leaf[None], row)
        made = jax.tree.map(lambda leaf: leaf[0], objective.guided(kind, oracle, rows))
        V = oracle.velocity(row.x_s, row.s, row.cond)
        v_null = oracle.velocity(row.x_s, row.s, Condition(jnp.asarray(NULL)))
        printed = V / 3 + (1 - 1 / 3) * v_null - row.v
        return FlowMatching()(oracle, oracle, made) ** 2 * made.factor, printed**2

    np.testing.assert_allclose(*run(classes()), rtol=1e-12)


def test_a_teacher_is_guided_by_the_condition(x64):
    @once
    def run(distribution, x, t, label):
        oracle = GuidedOracle(distribution=distribution, path=PATH)
        plain, teacher = oracle.velocity(x, t, Condition(label)), MapTeacher(oracle)
        asks, fixed = Guided(teacher, None, NULL), Guided(teacher, 3.0, NULL)
        alike = Autoguided(teacher, teacher, None)

        def asked(teacher, *guidance):
            return teacher.velocity(x, t, Condition(label, jnp.array(guidance)))

        return [
            (asked(asks, 3.0, 0.4, 0.6), fixed.velocity(x, t, Condition(label))),
            (asked(asks, 3.0, 0.6, 0.9), plain),
            *((asked(alike, w, 0.0, 1.0), plain) for w in (1.0, 2.0, 5.0)),
        ]

    for given, expected in run(classes(), np.array([0.3]), np.array(0.5), np.array(0)):
        np.testing.assert_allclose(given, expected, rtol=1e-12)


def test_guidance_at_sampling_time_is_two_evaluations_of_the_guided_velocity():
    distribution = classes()
    plain, labels = GuidedOracle(distribution=distribution, path=PATH), np.zeros(64, np.int32)
    times = np.linspace(1.0, 0.0, 9)
    asked = Guided(plain, None, NULL)
    ways = [
        (asked, (2.0, 0.0, 1.0)),
        (GuidedOracle(distribution=distribution, path=PATH, scale=2.0), None),
        (plain, None),
    ]
    guided, exact, unguided = (
        generate(m, Drawing(SAMPLERS["heun"], times, g), (1,), labels, key=jr.key(0))
        for m, g in ways
    )
    np.testing.assert_allclose(guided.x, exact.x, atol=1e-5)
    assert np.abs(guided.x - unguided.x).mean() > 0.1
    assert guided.nfe == 2 * exact.nfe == 32


@pytest.mark.parametrize(
    "name, config, classes, message",
    [
        ("imf", GuidanceConfig(most=4.0), 0, "labels"),
        ("ct", GuidanceConfig(scale=2.0), 3, "cannot learn guidance"),
        ("lmd", GuidanceConfig(scale=2.0), 3, "--teaching.scale"),
    ],
)
def test_what_cannot_be_guided_says_so(name, config, classes, message):
    plugin = dataclasses.replace(find_plugin(name).preset("points"), guidance=config)
    teacher = MapTeacher(GuidedOracle(distribution=globals()["classes"](), path=PATH))
    task = Task((1,), "points", classes)
    with pytest.raises(UserError, match=message):
        plugin.method(TinyNet((1,), key=jr.key(0)), PATH, teacher, task, key=jr.key(0))


@pytest.mark.parametrize(
    "flags",
    [
        {"scale": 0.5},
        {"most": 1.0},
        {"own": 1.0},
        {"interval": (0.5, 0.2)},
        {"draw_interval": True},
    ],
)
def test_impossible_guidance_is_one_line(flags):
    with pytest.raises(UserError, match="--plugin.guidance"):
        GuidanceConfig(**flags)
