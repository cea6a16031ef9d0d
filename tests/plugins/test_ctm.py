"""Consistency trajectory models: both forms of g, segments, the combined loss and its players."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import problems
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap, EndpointMap, FlowMap
from core.flow.network import DenoisedNetwork, Network
from core.flow.path import PATHS, LinearPath, Path
from core.flow.teacher import MapTeacher, frozen
from core.methods.plugin import Task
from core.methods.registry import find_plugin
from core.nets import NETS
from core.objectives.objective import Batch
from core.objectives.row import make_row
from core.oracle import OracleMap
from plugins.consistency.trajectory.balance import last_weight, ratio
from plugins.consistency.trajectory.denoising import Denoising
from plugins.consistency.trajectory.jump import TrajectoryJump
from plugins.consistency.trajectory.loss import Combined
from plugins.consistency.trajectory.segment import Solved
from tests.compiling import once
from tests.objectives.terms import TinyNet
from tests.sets import some

LINEAR = LinearPath()


def rows(path=LINEAR, n=64, dim=1):
    """Rows with source times up to 1 and target times of all sizes."""

    def one(key, s, share):
        x_0, z = jr.normal(key, (2, dim))
        s, t = path.time_of_unit(s), path.time_of_unit(share * s)
        return make_row(path, x_0, z, s, t, None, key)

    times = jnp.linspace(0.3, 1.0, n), jnp.linspace(0.0, 0.8, 7)[jnp.arange(n) % 7]
    return jax.vmap(one)(jr.split(jr.key(5), n), *times)


def g_of(flow_map):
    """The notes' g (eq. 1.29): `F = t/s x + (1 - t/s) g` on the linear path."""
    return lambda x, s, t, cond=None: x - s * flow_map.average_velocity(x, s, t, cond)


# --- Consistency ---


@pytest.mark.slow
def test_both_ends_meet_for_every_row_and_the_gap_falls_with_the_substeps(x64):
    """With n Heun steps of length h / n the gap is O(n (h/n)^3)."""
    exact = OracleMap(problem=problems()["gaussian"], path=LINEAR)

    @once
    def gaps():
        made, found = rows(n=24, dim=2), []
        for n in (4, 8, 128):
            term = TrajectoryJump(Solved(MapTeacher(exact), "heun", n), reach=0.3)
            left = jax.vmap(lambda row, term=term: term(exact, exact, row))(made)
            found.append(jnp.max(jnp.abs(left)))
        return found

    few, more, many = gaps()
    assert np.log2(few / more) == pytest.approx(2, abs=0.3)
    assert many < 1e-5 < more


def test_the_self_induced_ode_is_that_of_g_and_leads_along_the_flow(x64):
    exact = OracleMap(problem=problems()["gaussian"], path=LINEAR)
    g = g_of(exact)
    model = EndpointMap(g, LINEAR)

    @once
    @jax.vmap
    def solutions(x):
        """By a Heun step, the same by hand, by many steps, and exactly."""
        s, u = jnp.asarray(0.8), jnp.asarray(0.5)
        row = make_row(LINEAR, jnp.zeros_like(x), x / s, s, s, None, jr.key(0))
        first = (x - g(x, s, s)) / s
        euler = x + (u - s) * first
        hand = x + (u - s) * (first + (euler - g(euler, u, u)) / u) / 2
        one, many = (Solved(None, "heun", n)(model, row, u) for n in (1, 256))
        return one, hand, many, exact(x, s, u)

    one, hand, many, end = solutions(np.array([[-1.5, 0.4], [0.2, 0.2], [1.1, -2.0]]))
    np.testing.assert_allclose(one, hand, rtol=1e-12)
    np.testing.assert_allclose(many, end, atol=1e-5)
    assert np.min(np.max(np.abs(one - end), axis=1)) > 1e-4


class Silent(FlowMap):
    """A map whose output carries no gradient."""

    inner: FlowMap
    path: Path

    def average_velocity(self, x, s, t, cond=None):
        return jax.lax.stop_gradient(self.inner.average_velocity(x, s, t, cond))

    def __call__(self, x, s, t, cond=None):
        return jax.lax.stop_gradient(self.inner(x, s, t, cond))


def test_the_gradient_passes_through_the_frozen_outer_map_only(x64):
    """Its weights are stopped, not its output: with a silent one nothing is learned. Nor does a
    gradient reach the segment or the inner jump of the target."""
    model = AverageVelocityMap(TinyNet((1,), key=jr.key(0)), LINEAR)
    term = TrajectoryJump(Solved(None, "euler"))

    @once
    def gradients(model):
        row = jax.tree.map(lambda leaf: leaf[40], rows())
        target = frozen(model)
        fixed = term.ends(model, target, row)[1]

        def gradient(target, wanted=None):
            def size(model):
                estimate, found = term.ends(model, target, row)
                return jnp.sum((estimate - (found if wanted is None else wanted)) ** 2)

            leaves = jax.tree.leaves(eqx.filter_grad(size)(model))
            return jnp.concatenate([leaf.ravel() for leaf in leaves])

        return gradient(Silent(model, LINEAR)), gradient(target), gradient(target, frozen(fixed))

    silent, whole, held = gradients(model)
    assert np.all(silent == 0) and np.linalg.norm(whole) > 0
    np.testing.assert_allclose(whole, held, rtol=1e-9)


# --- The two forms of g ---


@pytest.mark.parametrize("name", PATHS)
def test_the_endpoint_form_keeps_its_start_and_ends_at_g(name, x64):
    path = PATHS[name]()
    plugin = dataclasses.replace(find_plugin("ctm-scratch").preset("points"), form="endpoint")
    flow_map = plugin.flow_map(TinyNet((2,), key=jr.key(1)), path)

    @once
    def run(x):
        s, end = path.time_of_unit(jnp.asarray(0.7)), jnp.asarray(path.t_min)
        ratio = path.sigma(end) / path.sigma(s)
        g = flow_map.net(x, path.unit_time(s), path.unit_time(end))
        landed = ratio * x + (path.alpha(end) - path.alpha(s) * ratio) * g
        return flow_map(x, s, s), flow_map(x, s, end), landed, g, flow_map(x, end, end)

    x = np.array([0.3, -1.2])
    start, found, landed, g, at_end = run(x)
    np.testing.assert_array_equal(start, x)
    np.testing.assert_allclose(found, landed, rtol=1e-7)
    if name == "linear":
        np.testing.assert_allclose(found, g, rtol=1e-12)
    assert np.isfinite(at_end).all() and np.isfinite(found).all()


def test_g_of_the_exact_map_is_the_denoiser_on_the_diagonal_and_leaves_it_linearly(x64):
    """Proposition 2 of the lecture notes: `g(x, s, t) = x - s v(x, s) + O(|t - s|)`."""

    @once
    def run(problem, x, s, steps):
        exact = OracleMap(problem=problem, path=LINEAR)
        g, t = g_of(exact), jnp.asarray(0.1)
        mean = exact.problem.x_0_mean(LINEAR, x, s)
        gaps = jax.vmap(lambda h: jnp.abs(g(x, s, s - h) - mean)[0])(steps)
        jumps = EndpointMap(g, LINEAR)(x, s, t), exact(x, s, t)
        return g(x, s, s), x - s * exact.velocity(x, s), mean, gaps, jumps

    steps = np.array([0.04, 0.02, 0.01])
    diagonal, by_velocity, mean, gaps, jumps = run(
        problems()["mixture"], np.array([0.7]), np.array(0.6), steps
    )
    np.testing.assert_allclose(diagonal, by_velocity, rtol=1e-9)
    np.testing.assert_allclose(diagonal, mean, rtol=1e-9)
    np.testing.assert_allclose(np.log2(gaps[:-1]) - np.log2(gaps[1:]), 1, atol=0.1)
    np.testing.assert_allclose(*jumps, rtol=1e-9)


@pytest.mark.parametrize("name", ["linear", "vp", "edm"])
def test_the_denoising_loss_is_edms(name, x64):
    """`(eta^2 + d^2) / (eta d)^2 |g - x_0|^2`: at the exact map the variance of the posterior."""
    path, d = PATHS[name](), 0.6

    @once
    def run(problem):
        exact = OracleMap(problem=problem, path=path)

        def both(row):
            eta = path.sigma(row.s) / path.alpha(row.s)
            miss = exact.problem.x_0_mean(path, row.x_s, row.s) - row.x_0
            wanted = (eta**2 + d**2) / (eta * d) ** 2 * jnp.sum(miss**2)
            return jnp.sum(Denoising(d)(exact, exact, row) ** 2), wanted

        made = jax.tree.map(lambda leaf: leaf[:-4], rows(path))  # alpha = 0 at the last on some
        return jax.vmap(both)(made)

    np.testing.assert_allclose(*run(problems()["mixture"]), rtol=1e-6)


# --- The combined loss ---


class Small(Network):
    """A small network that names its last layer."""

    first: TinyNet
    last_layer: eqx.nn.Linear

    def __init__(self, key):
        keys = jr.split(key)
        self.first, self.last_layer = TinyNet((2,), key=keys[0]), eqx.nn.Linear(2, 2, key=keys[1])

    def __call__(self, x, s, t, cond=None):
        return self.last_layer(self.first(x, s, t))

    @property
    def last_weight(self):
        return self.last_layer.weight


def combined(**flags):
    """A combined objective around a small random network, its players and a batch."""
    keys = jr.split(jr.key(3))
    preset = find_plugin("ctm-scratch").preset("points")
    plugin = dataclasses.replace(preset, **{"jumps": True, **flags})
    made = plugin.method(Small(keys[0]), LINEAR, None, Task((2,), "points", 0, 10), key=keys[1])
    players = {"model": made.flow_map, **made.players}
    x_0 = np.random.default_rng(3).standard_normal((16, 2)).astype(np.float32)
    return made.objective, players, Batch(jax.device_put(x_0))


@once
def losses_and_gradients(objective, players, batch, step, key=jr.key(1)):
    """Losses and metrics, and the gradient of each loss with respect to every player."""
    arrays, static = eqx.partition(players, eqx.is_inexact_array)

    def losses(arrays):
        given = eqx.combine(arrays, static)
        out = objective(given, frozen(given), None, batch, key, step)
        return out[0], out

    gradients, out = jax.jacrev(losses, has_aux=True)(arrays)
    return out[0], out[2], gradients


@pytest.mark.slow
def test_with_unit_weights_the_combined_loss_is_the_plain_one():
    objective, players, batch = combined(denoising=2.0)
    objective = dataclasses.replace(objective, denoising=1.0)
    key, step = jr.key(4), jnp.asarray(3)
    loss, metrics, _ = losses_and_gradients(objective, players, batch, step, key)
    plain, plain_metrics, _ = losses_and_gradients(
        objective.plain, players, batch, step, jr.split(key)[0]
    )
    np.testing.assert_allclose(loss["model"], plain["model"], rtol=1e-5)
    for name, value in plain_metrics.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5)


@pytest.mark.slow
def test_each_player_moves_by_its_own_loss_and_the_game_begins_late():
    flags = {"gan": 1.0, "gan_start": 0.4, "gan_penalty": 0.1, "gan_features": True}
    objective, players, batch = combined(adaptive=True, **flags)
    for step, playing in ((2, False), (5, True)):
        out = losses_and_gradients(objective, players, batch, jnp.asarray(step))
        losses, metrics, gradients = out
        assert all(np.isfinite(value) for value in [*losses.values(), *metrics.values()])
        assert (metrics["lambda/gan"] > 0) == playing
        for loss, by_player in gradients.items():
            for name, tree in by_player.items():
                size = sum(np.sum(np.abs(leaf)) for leaf in jax.tree.leaves(tree))
                moved = name == loss and (playing or name == "model")
                assert (size > 0) == moved, (loss, name)


@pytest.mark.slow
def test_adaptive_weights_balance_the_last_layer_and_carry_no_gradient():
    objective, players, batch = combined(adaptive=True)
    objective, step = dataclasses.replace(objective, least=0.0), jnp.asarray(5)
    loss, metrics, whole = losses_and_gradients(objective, players, batch, step)

    def fixed(denoising):
        held = dataclasses.replace(objective, adaptive=False, denoising=denoising)
        return losses_and_gradients(held, players, batch, step)

    constant, none = fixed(float(metrics["lambda/denoising"])), fixed(0.0)
    np.testing.assert_allclose(loss["model"], constant[0]["model"], rtol=1e-5)
    trees = (jax.tree.leaves(tree["model"]["model"]) for tree in (whole, constant[2]))
    for one, other in zip(*trees, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    total, first = (last_weight(g["model"]["model"]) for g in (whole, none[2]))
    norms = np.linalg.norm(total - first), np.linalg.norm(first)
    np.testing.assert_allclose(*norms, rtol=1e-2)  # the rule adds 1e-4 to a norm


def test_adaptive_weights_are_clamped_and_constant():
    run = once(jax.vmap(jax.value_and_grad(lambda a, b: ratio(a, b, 0.01, 10.0))))
    found, slopes = run(np.float32([1.0, 0.0, 2.0]), np.float32([0.0, 1.0, 1.0]))
    np.testing.assert_allclose(found, [10, 0.01, 2], rtol=1e-3)
    assert not np.any(slopes)


SHAPES = {"mlp": (2,)}  # others (4, 4, 1)
ONE_LEVEL = {"channels": 8, "blocks": 1, "multipliers": (1,)}
SMALLEST = {
    "mlp": {"width": 8}, "dit": {"depth": 1}, "unet": {"channels": 8, "blocks": 1},
    "edm-unet": ONE_LEVEL, "edm2-unet": ONE_LEVEL,
    "official-dit": {"depth": 1}, "imf-dit": {"depth": 2, "head_depth": 1},
    "diffusers-unet": {
        "channels": (8,), "layers": 1, "groups": 4, "down": ("DownBlock2D",),
        "up": ("UpBlock2D",), "middle_attention": False,
    },
}  # fmt: skip


@pytest.mark.programs(40)  # a network is initialised outside jit
@pytest.mark.parametrize("name", some(NETS, "mlp", "dit", "unet"))
def test_the_last_weight_makes_the_output(name, normal):
    """Fresh networks are zero, because it is; the output is linear in it."""
    shape = SHAPES.get(name, (4, 4, 1))
    net = NETS[name](**SMALLEST[name]).build(shape, 0, key=jr.key(0))
    flow_map = EndpointMap(net=DenoisedNetwork(net=net, path=LINEAR), path=LINEAR)

    @once
    def run(flow_map, some):
        changed = [eqx.tree_at(last_weight, flow_map, c * some) for c in (0.0, 1.0, 2.0)]
        given = jnp.ones(shape), jnp.asarray(0.4), jnp.asarray(0.4)
        return [changed.net.net(*given) for changed in (flow_map, *changed)]

    fresh, none, one, twice = run(flow_map, normal(*last_weight(flow_map).shape))
    np.testing.assert_allclose(twice, 2 * one, rtol=1e-4)
    assert np.max(np.abs(one)) > 1e-3 and not np.any(fresh) and not np.any(none)


@pytest.mark.parametrize(
    "flags",
    [{"gan_features": True}, {"gan": 1.0, "diagonal": 0.0}, {"gan": 1.0, "learned_weight": True}],
)
def test_flags_that_do_not_fit_are_refused(flags):
    with pytest.raises(UserError):
        combined(**flags)


def test_plain_flags_build_no_discriminator():
    objective, players, _ = combined()
    assert not isinstance(objective, Combined) and set(players) == {"model"}
