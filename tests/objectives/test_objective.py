"""Training objectives: rows of kinds, means, labels and versions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath, TrigPath
from core.methods.registry import find_plugin
from core.objectives.objective import Batch, FlowMatching, RowKind
from core.objectives.rows import RowObjective, row_losses
from core.objectives.weights import Adaptive
from core.times.distributions import Uniform
from core.times.pairs import Diagonal
from plugins.flow_matching import FM
from plugins.meanflow import IMF, MF
from tests.compiling import on_host, once
from tests.objectives.terms import (
    FIVE_IMAGES,
    IMAGE,
    PLUGINS,
    STEP,
    TERMS,
    TinyNet,
    Zero,
    call,
    method,
    only,
)

# --- Rows and means ---


def batch_of(x_0, label=None):
    return Batch(jax.device_put(x_0), None if label is None else jax.device_put(label))


@pytest.mark.parametrize("plugin", [FM(), MF(power=0.0), IMF(power=0.0)])
def test_the_loss_is_the_mean_over_all_rows(plugin, normal):
    """Without noise and with `V = 0` every residual is `-x_0`, whatever the kind and the times."""
    x_0 = normal(7, 3)
    built = method(plugin, Zero(), LinearPath(noise_std=0.0))
    losses, _, metrics = on_host(call(built.objective, built.flow_map, batch_of(x_0)))
    assert losses["model"] == pytest.approx(np.sum(x_0**2) / 7, rel=1e-5)
    assert metrics["loss"] == losses["model"]
    first = round(7 * built.objective.kinds[0].share)
    residual = np.mean(x_0[:first] ** 2)
    assert metrics["diagonal/residual"] == pytest.approx(residual, rel=1e-5)


def test_each_row_and_each_part_of_a_row_has_its_own_adaptive_weight(normal):
    x_0 = normal(8, 3)
    squares = np.sum(x_0**2, axis=1)
    expected = np.mean(squares / (squares + 0.01))
    for plugin, parts in ((MF(), 1), (IMF(), 1), (IMF(head=True), 2)):
        built = method(plugin, Zero(), LinearPath(noise_std=0.0))
        losses, _, _ = on_host(call(built.objective, built.flow_map, batch_of(x_0)))
        assert losses["model"] == pytest.approx(parts * expected, rel=1e-5)


def flops(function, *arguments):
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


@pytest.mark.parametrize("name, diagonal_cost, jump_cost", [("mf", 3, 4), ("imf", 3, 5)])
def test_only_jump_rows_pay_for_their_derivative(name, diagonal_cost, jump_cost, getkey):
    """In forward passes: a gradient is 3, a derivative one more, an own velocity another.

    The first of two layers needs no gradient of its input, so half a pass is saved here.
    """
    net = TinyNet((64,), 1024, key=getkey())
    arrays, static = eqx.partition(net, eqx.is_array)
    zero, x = jnp.zeros(()), jnp.zeros(64)
    forward = flops(lambda a: eqx.combine(a, static)(x, zero, zero), arrays)
    batch = Batch(jnp.zeros((16, 64)))

    def gradient_flops(diagonal):
        objective = method(type(PLUGINS[name])(diagonal=diagonal), net).objective

        def loss(a):
            model = AverageVelocityMap(eqx.combine(a, static), LinearPath())
            return call.__wrapped__(objective, model, batch)[0]["model"]

        return flops(jax.grad(loss), arrays) / 16 / forward

    share = PLUGINS[name].diagonal
    split = share * diagonal_cost + (1 - share) * jump_cost
    assert gradient_flops(share) == pytest.approx(split - 0.5, rel=0.03)
    assert float(PLUGINS[name].card.cost) == pytest.approx(split)


# --- No cross-talk ---


@pytest.mark.parametrize("name", TERMS)
def test_the_loss_of_a_batch_of_one_channel_images_is_the_mean_of_its_rows(name, normal, getkey):
    model = AverageVelocityMap(TinyNet(IMAGE, key=getkey()), LinearPath())
    x_0 = normal(*FIVE_IMAGES)
    objective = only(TERMS[name])

    def batch_loss(x_0):
        return float(call(objective, model, batch_of(x_0))[0]["model"])

    alone = [batch_loss(np.stack([row] * 5)) for row in x_0]
    assert batch_loss(x_0) == pytest.approx(sum(alone) / 5, rel=1e-5)
    assert max(alone) - min(alone) > 0.01


@pytest.mark.parametrize("name", ["mf", "imf", "imf head"])
def test_permuting_the_rows_permutes_their_losses(name, normal, getkey):
    built = method(PLUGINS[name], TinyNet(IMAGE, key=getkey()))
    objective, players = built.objective, {"model": built.flow_map}
    kind, order = objective.kinds[1], np.array([3, 0, 4, 2, 1])

    @once
    def run(x_0, key_rows, order):
        rows = objective.rows(kind, Batch(x_0), key_rows, STEP)
        shuffled = jax.tree.map(lambda leaf: leaf[order], rows)
        louder = eqx.tree_at(lambda r: r.x_s, rows, rows.x_s.at[0].multiply(3.0))
        losses = jax.vmap(lambda row: row_losses(kind, players, players, row)[0]["model"])
        return [losses(given) for given in (rows, shuffled, louder)]

    plain, shuffled, louder = run(normal(*FIVE_IMAGES), getkey(), order)
    np.testing.assert_allclose(shuffled, plain[order], rtol=1e-5)
    np.testing.assert_allclose(louder[1:], plain[1:], rtol=1e-5)
    assert len(np.unique(plain)) == 5


def test_rows_have_their_own_times_noise_and_keys_on_the_path(normal, getkey):
    path = TrigPath()
    objective = method(MF(), Zero(), path).objective
    x_0 = normal(256, 2)
    for kind in objective.kinds:

        @once
        def run(x_0, key, kind=kind):
            rows = objective.rows(kind, Batch(x_0), key, STEP)
            return rows, jr.key_data(rows.key)

        rows, keys = run(x_0, getkey())
        assert np.all((rows.t >= 0) & (rows.t <= rows.s) & (rows.s <= path.t_max))
        assert np.all(rows.s == rows.t) == (kind.name == "diagonal")
        assert len(np.unique(rows.z)) == rows.z.size
        assert len(np.unique(keys, axis=0)) == 256
        cos, sin = np.cos(rows.s)[:, None], np.sin(rows.s)[:, None]
        np.testing.assert_allclose(rows.x_s, cos * x_0 + sin * rows.z, atol=1e-5)
        np.testing.assert_allclose(rows.v, cos * rows.z - sin * x_0, atol=1e-5)


def test_shares_that_do_not_sum_to_one_are_refused():
    kind = RowKind("half", 0.5, Diagonal(Uniform()), FlowMatching())
    with pytest.raises(ValueError, match="sum to 1"):
        RowObjective(LinearPath(), (kind,))


# --- Labels ---


@pytest.mark.parametrize("drop", [0.0, 0.1, 1.0])
def test_labels_become_the_null_class_with_the_stated_probability(drop, rng, getkey):
    n, classes = 4000, 10
    label = rng.integers(0, classes, n, dtype=np.int32)
    objective, dropped = method(MF(label_drop=drop), Zero(), classes=classes).objective, []

    @once
    def labels(x_0, label, keys):
        rows = zip(objective.kinds, keys, strict=True)  # diagonal rows and jumps alike
        rows = [objective.rows(kind, Batch(x_0, label), key, STEP) for kind, key in rows]
        return [row.cond.label for row in rows]

    for found in labels(np.zeros((n, 2), np.float32), label, [getkey(), getkey()]):
        null = found == classes
        error = (drop * (1 - drop) / n) ** 0.5
        assert abs(np.mean(null) - drop) <= 4 * error
        assert np.all(np.where(null, label, found) == label)
        dropped.append(null)
    assert np.any(dropped[0] != dropped[1]) == (0 < drop < 1)


def test_without_labels_or_classes_rows_have_no_condition(getkey):
    label, x_0 = np.arange(4, dtype=np.int32), np.zeros((4, 2), np.float32)
    for batch, classes in ((batch_of(x_0), 10), (batch_of(x_0, label), 0)):
        objective = method(MF(), Zero(), classes=classes).objective
        rows = eqx.filter_eval_shape(
            objective.rows, objective.kinds[0], batch, getkey(), jnp.asarray(0)
        )
        assert rows.cond is None


# --- Versions ---


def test_the_head_version_asks_for_a_network_with_a_head():
    with pytest.raises(UserError, match="--net.head-depth 1"):
        method(IMF(head=True), Zero(has_head=False))


def test_presets_for_points_have_plain_weights_and_uniform_times():
    for plugin in (MF, IMF):
        kinds = method(plugin.preset("points"), Zero()).objective.kinds
        assert all(kind.weight == Adaptive(0.0, 0.01) for kind in kinds)
        s, t = once(lambda key: kinds[1].times(key, 20_000, STEP))(jr.key(0))
        assert s.mean() == pytest.approx(2 / 3, abs=0.01)
        assert t.mean() == pytest.approx(1 / 3, abs=0.01)


def test_improved_meanflow_can_train_the_whole_jump_on_a_share_of_its_rows():
    jump = method(IMF(full=0.25), Zero()).objective.kinds[1]
    s, t = once(lambda key: jump.times(key, 100, STEP))(jr.key(0))
    assert np.sum((s == 1) & (t == 0)) == 25


def test_rules_through_a_derivative_train_the_whole_jump_all_along_its_way():
    def pairs(plugin):
        times = plugin.whole_jumps()
        return once(lambda key: times(key, 500, STEP))(jr.key(0))

    for name in ("lsd", "tvm", "lmd"):
        s, t = pairs(find_plugin(name)())
        assert (s == 1).all() and t.min() < 0.02 and t.max() > 0.98, name
    s, t = pairs(find_plugin("esd")())
    assert (t == 0).all() and s.min() < 0.02 and s.max() > 0.98
    s, t = pairs(find_plugin("mf")())
    assert (s == 1).all() and (t == 0).all()
