"""Training objectives: rows of kinds, means, labels, and where gradients stop."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import Array, Float

from core.conformance import problems
from core.errors import UserError
from core.flow_map import AverageVelocityMap, FlowMap
from core.objective import Batch, FlowMatching, RowObjective, Rows, Term, make_row, row_loss
from core.oracle import OracleMap
from core.path import LinearPath, TrigPath
from core.plugin import Task
from core.teacher import frozen
from core.times import Diagonal, OrderedPair, Point, Uniform
from core.weights import Adaptive
from plugins.flow_matching import FM
from plugins.meanflow import IMF, MF
from plugins.meanflow.imf import BoundaryJump, HeadDiagonal, HeadJump
from plugins.meanflow.mf import MeanFlowJump

IMAGE = (8, 8, 1)
STEP = jnp.zeros((), jnp.int32)
FIVE_IMAGES = (5, *IMAGE)  # five rows of one channel: broadcasting across rows would show


class TinyNet(eqx.Module):
    """A small smooth network of any shape with a velocity head."""

    first: Array
    second: Array
    head: Array
    head_depth: int = eqx.field(static=True, default=1)

    def __init__(self, shape, width=16, *, key):
        dim = int(jnp.prod(jnp.asarray(shape)))
        keys = jr.split(key, 3)
        self.first = jr.normal(keys[0], (width, dim + 2)) / dim**0.5
        self.second = jr.normal(keys[1], (dim, width)) / width**0.5
        self.head = jr.normal(keys[2], (dim, width)) / width**0.5

    def _hidden(self, x, s, t):
        return jnp.tanh(self.first @ jnp.concatenate([x.ravel(), s[None], t[None]]))

    def __call__(self, x, s, t, cond=None):
        return (self.second @ self._hidden(x, s, t)).reshape(x.shape)

    def with_head(self, x, s, t, cond=None):
        h = self._hidden(x, s, t)
        return (self.second @ h).reshape(x.shape), (self.head @ h).reshape(x.shape)


class Zero(eqx.Module):
    """The network that is zero, and so is every derivative of it."""

    head_depth: int = eqx.field(static=True, default=1)

    def __call__(self, x, s, t, cond=None):
        return jnp.zeros_like(x)

    def with_head(self, x, s, t, cond=None):
        return jnp.zeros_like(x), jnp.zeros_like(x)


PLUGINS = {"fm": FM(), "mf": MF(), "imf": IMF(), "imf head": IMF(head=True)}
JUMPS = {"mf": MeanFlowJump(), "imf": BoundaryJump(), "imf head": HeadJump()}
TERMS = {**JUMPS, "fm": FlowMatching(), "head diagonal": HeadDiagonal()}


def method(plugin, net, path=LinearPath(), classes=0):
    task = Task((2,), "points", classes)
    return plugin.method(net, path, None, task, key=jr.key(0))


@eqx.filter_jit
def call(objective, model, batch):
    target = {"model": frozen(model)}
    return objective({"model": model}, target, None, batch, jr.key(7), STEP)


def only(term):
    """An objective of one kind of row at one pair of times, without noise: nothing is random."""
    kind = Rows("jump", 1.0, OrderedPair(Point(0.9), Point(0.3)), term)
    return RowObjective(LinearPath(noise_std=0.0), (kind,))


# --- Rows and means ---


@pytest.mark.parametrize("plugin", [FM(), MF(power=0.0), IMF(power=0.0)])
def test_the_loss_is_the_mean_over_all_rows(plugin, getkey):
    """Without noise and with `V = 0` every residual is `-x_0`, whatever the kind and the times."""
    x_0 = jr.normal(getkey(), (7, 3))
    built = method(plugin, Zero(), LinearPath(noise_std=0.0))
    losses, _, metrics = call(built.objective, built.flow_map, Batch(x_0))
    assert losses["model"] == pytest.approx(float(jnp.sum(x_0**2) / 7), rel=1e-5)
    assert metrics["loss"] == losses["model"]
    first = round(7 * built.objective.kinds[0].share)
    residual = float(jnp.mean(x_0[:first] ** 2))
    assert metrics["diagonal/residual"] == pytest.approx(residual, rel=1e-5)


def test_each_row_and_each_part_of_a_row_has_its_own_adaptive_weight(getkey):
    x_0 = jr.normal(getkey(), (8, 3))
    squares = jnp.sum(x_0**2, axis=1)
    expected = float(jnp.mean(squares / (squares + 0.01)))
    for plugin, parts in ((MF(), 1), (IMF(), 1), (IMF(head=True), 2)):
        built = method(plugin, Zero(), LinearPath(noise_std=0.0))
        losses, _, _ = call(built.objective, built.flow_map, Batch(x_0))
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
    assert float(PLUGINS[name].cost) == pytest.approx(split)


# --- No cross-talk ---


@pytest.mark.parametrize("name", TERMS)
def test_the_loss_of_a_batch_of_one_channel_images_is_the_mean_of_its_rows(name, getkey):
    model = AverageVelocityMap(TinyNet(IMAGE, key=getkey()), LinearPath())
    x_0 = jr.normal(getkey(), FIVE_IMAGES)
    objective = only(TERMS[name])

    def batch_loss(x_0):
        return float(call(objective, model, Batch(x_0))[0]["model"])

    alone = [batch_loss(jnp.stack([row] * 5)) for row in x_0]
    assert batch_loss(x_0) == pytest.approx(sum(alone) / 5, rel=1e-5)
    assert max(alone) - min(alone) > 0.01


@pytest.mark.parametrize("name", ["mf", "imf", "imf head"])
def test_permuting_the_rows_permutes_their_losses(name, getkey):
    built = method(PLUGINS[name], TinyNet(IMAGE, key=getkey()))
    objective, players = built.objective, {"model": built.flow_map}
    kind = objective.kinds[1]
    batch = Batch(jr.normal(getkey(), FIVE_IMAGES))
    rows = objective.rows(kind, batch, getkey(), STEP)
    losses = jax.jit(jax.vmap(lambda row: row_loss(kind, players, players, row)[0]))
    order = jnp.array([3, 0, 4, 2, 1])
    shuffled = jax.tree.map(lambda leaf: leaf[order], rows)
    assert jnp.allclose(losses(shuffled), losses(rows)[order], rtol=1e-5)
    louder = eqx.tree_at(lambda r: r.x_s, rows, rows.x_s.at[0].multiply(3.0))
    assert jnp.allclose(losses(louder)[1:], losses(rows)[1:], rtol=1e-5)
    assert len(jnp.unique(losses(rows))) == 5


def test_rows_have_their_own_times_noise_and_keys_on_the_path(getkey):
    path = TrigPath()
    objective = method(MF(), Zero(), path).objective
    x_0 = jr.normal(getkey(), (256, 2))
    for kind in objective.kinds:
        rows = jax.jit(objective.rows)(kind, Batch(x_0), getkey(), STEP)
        assert jnp.all((rows.t >= 0) & (rows.t <= rows.s) & (rows.s <= path.t_max))
        assert jnp.all(rows.s == rows.t) == (kind.name == "diagonal")
        assert len(jnp.unique(rows.z)) == rows.z.size
        assert len(jnp.unique(jr.key_data(rows.key), axis=0)) == 256
        angle = rows.s[:, None]
        assert jnp.allclose(rows.x_s, jnp.cos(angle) * x_0 + jnp.sin(angle) * rows.z, atol=1e-5)
        assert jnp.allclose(rows.v, jnp.cos(angle) * rows.z - jnp.sin(angle) * x_0, atol=1e-5)


def test_shares_that_do_not_sum_to_one_are_refused():
    kind = Rows("half", 0.5, Diagonal(Uniform()), FlowMatching())
    with pytest.raises(ValueError, match="sum to 1"):
        RowObjective(LinearPath(), (kind,))


# --- Labels ---


@pytest.mark.parametrize("drop", [0.0, 0.1, 1.0])
def test_labels_become_the_null_class_with_the_stated_probability(drop, getkey):
    n, classes = 4000, 10
    label = jr.randint(getkey(), (n,), 0, classes)
    objective = method(MF(label_drop=drop), Zero(), classes=classes).objective
    for kind in objective.kinds:  # diagonal rows and jumps alike
        rows = objective.rows(kind, Batch(jnp.zeros((n, 2)), label), getkey(), STEP)
        null = rows.cond.label == classes
        error = (drop * (1 - drop) / n) ** 0.5
        assert abs(float(jnp.mean(null)) - drop) <= 4 * error
        assert jnp.all(jnp.where(null, label, rows.cond.label) == label)


def test_without_labels_or_classes_rows_have_no_condition(getkey):
    labels = jnp.array([0, 1, 2, 3])
    for batch, classes in ((Batch(jnp.zeros((4, 2))), 10), (Batch(jnp.zeros((4, 2)), labels), 0)):
        objective = method(MF(), Zero(), classes=classes).objective
        assert objective.rows(objective.kinds[0], batch, getkey(), STEP).cond is None


# --- Gradients: one random network, one row, float64 ---


@pytest.fixture
def case(x64, getkey):
    """A random map and a row, and central differences along `(tau, 1)` as the derivative."""
    path = TrigPath()
    model = AverageVelocityMap(TinyNet((3,), key=getkey()), path)
    x_0, z = jr.normal(getkey(), (3,)), jr.normal(getkey(), (3,))
    row = make_row(path, x_0, z, jnp.asarray(1.1), jnp.asarray(0.4), None, getkey())

    def derivative(tau, h=1e-5):
        def V(x, s):
            return model.average_velocity(x, s, row.t)

        return (V(row.x_s + h * tau, row.s + h) - V(row.x_s - h * tau, row.s - h)) / (2 * h)

    return model, row, derivative


def gradient(function, model):
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    flat, unravel = jax.flatten_util.ravel_pytree(arrays)
    return jax.jit(jax.grad(lambda p: function(eqx.combine(unravel(p), static))))(flat)


def loss(term, row):
    def value(model, target=None):
        kind = Rows("jump", 1.0, Diagonal(), term)
        players = {"model": model}
        return row_loss(kind, players, {"model": target or frozen(model)}, row)[0]

    return value


def test_meanflow_regresses_a_constant_target(case):
    model, row, derivative = case
    target = row.v + (row.t - row.s) * derivative(row.v)

    def regression(m):
        return jnp.sum((m.average_velocity(row.x_s, row.s, row.t) - target) ** 2)

    found = gradient(loss(MeanFlowJump(), row), model)
    assert jnp.allclose(found, gradient(regression, model), rtol=1e-6, atol=1e-8)
    assert loss(MeanFlowJump(), row)(model) == pytest.approx(float(regression(model)), rel=1e-6)


@pytest.mark.parametrize("head", [False, True])
def test_improved_meanflow_stops_the_derivative_and_the_tangent(case, head):
    model, row, derivative = case
    v_head = model.with_velocity(row.x_s, row.s, row.s)[1]
    tau = v_head if head else model.velocity(row.x_s, row.s)
    constant = row.v + (row.t - row.s) * derivative(tau)

    def regression(m):
        V, v_head = m.with_velocity(row.x_s, row.s, row.t)
        auxiliary = jnp.sum((v_head - row.v) ** 2) if head else 0.0
        return jnp.sum((V - constant) ** 2) + auxiliary

    found = gradient(loss(HeadJump() if head else BoundaryJump(), row), model)
    assert jnp.allclose(found, gradient(regression, model), rtol=1e-6, atol=1e-8)


class Unstopped(Term):
    """MeanFlow without its stop-gradient: what the tests above must tell apart."""

    def __call__(self, model, target, row):
        def V(x, s):
            return model.average_velocity(x, s, row.t)

        value, slope = jax.jvp(V, (row.x_s, row.s), (row.v, jnp.ones_like(row.s)))
        return value - row.v - (row.t - row.s) * slope


def test_the_stop_gradient_changes_the_gradient_and_not_the_loss(case):
    model, row, _ = case
    stopped, free = loss(MeanFlowJump(), row), loss(Unstopped(), row)
    assert free(model) == pytest.approx(float(stopped(model)), rel=1e-12)
    difference = jnp.linalg.norm(gradient(free, model) - gradient(stopped, model))
    assert difference > 0.01 * jnp.linalg.norm(gradient(stopped, model))


@pytest.mark.parametrize("name", TERMS)
def test_gradient_reaches_the_trained_parameters_and_never_those_of_the_target(name, case):
    model, row, _ = case
    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    for_model = jax.grad(lambda a: loss(TERMS[name], row)(eqx.combine(a, static)))(arrays)
    net, head = for_model.net, "head" in name
    assert all(jnp.any(part != 0) for part in (net.first, net.second))
    assert bool(jnp.any(net.head != 0)) == head
    for_target = jax.grad(lambda a: loss(TERMS[name], row)(model, frozen(eqx.combine(a, static))))(
        arrays
    )
    assert all(not jnp.any(leaf) for leaf in jax.tree.leaves(for_target))


class PairVelocity(FlowMap):
    """A random map whose diagonal is said to be one given velocity."""

    net: FlowMap
    v: Array
    path: TrigPath

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: None = None,
    ) -> Float[Array, "*shape"]:
        return self.net.average_velocity(x, s, t, cond)

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: None = None
    ) -> Float[Array, "*shape"]:
        return jax.lax.stop_gradient(self.v)


def test_improved_meanflow_along_the_pairs_own_velocity_is_meanflow(case):
    """The tangent is the only change: with `tau = v` loss and semigradient are identical."""
    model, row, _ = case
    wrapped = PairVelocity(model, row.v, model.path)
    imf, mf = loss(BoundaryJump(), row), loss(MeanFlowJump(), row)
    assert imf(wrapped) == pytest.approx(float(mf(model)), rel=1e-12)
    same = gradient(lambda m: imf(PairVelocity(m, row.v, m.path)), model)
    assert jnp.allclose(same, gradient(mf, model), rtol=1e-12, atol=1e-14)
    assert not jnp.allclose(gradient(imf, model), gradient(mf, model), rtol=1e-2)


# --- At the exact map: what is left of a residual, row by row ---


@pytest.fixture(params=["mixture", "gaussian"])
def exact(request, x64):
    return OracleMap(problems()[request.param], LinearPath())


def sampled_rows(exact, key, n=16):
    key_data, key_rows = jr.split(key)
    x_0 = jax.vmap(exact.problem.sample)(jr.split(key_data, n))
    kind = Rows("jump", 1.0, OrderedPair(Uniform(0.05, 1.0), Uniform(0.05, 1.0)), FlowMatching())
    return RowObjective(exact.path, (kind,)).rows(kind, Batch(x_0), key_rows, STEP)


@jax.jit
def residuals(exact, rows):
    """Residuals of MeanFlow and of its descendant, and `v - v_pair`, all in one program."""
    mf, imf = (jax.vmap(lambda r: term(exact, exact, r))(rows) for term in list(JUMPS.values())[:2])
    v = jax.vmap(lambda x, s: exact.problem.velocity(exact.path, x, s))(rows.x_s, rows.s)
    return mf, imf, v - rows.v


def pushed_forward(exact, rows, direction, h=1e-5):
    """`grad F . direction` by central differences of the closed form."""
    F = jax.jit(jax.vmap(exact))
    there, back = (F(rows.x_s + d * direction, rows.s, rows.t) for d in (h, -h))
    return (there - back) / (2 * h)


def test_what_the_exact_map_leaves_of_each_residual(exact, getkey):
    """MeanFlow: the excess velocity carried along by the map; its descendant: the excess itself."""
    rows = sampled_rows(exact, getkey())
    mf, imf, excess = residuals(exact, rows)
    pushed = pushed_forward(exact, rows, excess)
    assert jnp.allclose(mf, pushed, rtol=1e-6, atol=1e-6)
    assert jnp.allclose(imf, excess, rtol=1e-9, atol=1e-9)
    assert jnp.max(jnp.abs(pushed - excess)) > 0.1


def test_a_weight_that_depends_on_the_residual_moves_the_minimiser(x64, getkey):
    """At the true map of a skewed mixture `E[R] = 0`, but `E[w R]` is not: hence power 0."""
    n, path, problem = 20_000, LinearPath(), problems()["mixture"]
    exact, x_s, s, t = (
        OracleMap(problem, path),
        jnp.array([-0.6]),
        jnp.asarray(0.5),
        jnp.asarray(0.1),
    )
    powers = (0.0, 0.5, 1.0)

    def one(key):  # a pair that passes through x_s
        x_0 = problem.sample_posterior(path, key, x_s, s)
        row = make_row(path, x_0, (x_s - (1 - s) * x_0) / s, s, t, None, key)
        left = MeanFlowJump()(exact, exact, row)
        weights = [lambda R, p=p: Adaptive(power=p)(R, s, t) / 2 for p in powers]
        return left, [jax.grad(weight)(left) for weight in weights]

    left, updates = jax.jit(jax.vmap(one))(jr.split(getkey(), n))
    for power, update in zip(powers, updates):
        mean, error = jnp.mean(update), jnp.std(update) / n**0.5
        assert bool(jnp.abs(mean) > 4 * error) == (power > 0)
        assert power == 0 or jnp.abs(mean / jnp.mean(update / left)) > 0.05


# --- Versions ---


def test_the_head_version_asks_for_a_network_with_a_head():
    with pytest.raises(UserError, match="--net.head-depth 1"):
        method(IMF(head=True), Zero(head_depth=0))


def test_presets_for_points_have_plain_weights_and_uniform_times():
    for plugin in (MF, IMF):
        kinds = method(plugin.preset("points"), Zero()).objective.kinds
        assert all(kind.weight == Adaptive(0.0, 0.01) for kind in kinds)
        s, t = kinds[1].times(jr.key(0), 20_000, STEP)
        assert abs(float(jnp.mean(s)) - 2 / 3) < 0.01 and abs(float(jnp.mean(t)) - 1 / 3) < 0.01


def test_improved_meanflow_can_train_the_whole_jump_on_a_share_of_its_rows():
    jump = method(IMF(full=0.25), Zero()).objective.kinds[1]
    s, t = jump.times(jr.key(0), 100, STEP)
    assert int(jnp.sum((s == 1) & (t == 0))) == 25
