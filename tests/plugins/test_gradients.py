"""Where gradients stop, and what the exact map leaves of each residual."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.random as jr
import pytest
from jaxtyping import Array, Float

from core.conformance import problems
from core.flow.flow_map import AverageVelocityMap, FlowMap
from core.flow.path import LinearPath, TrigPath
from core.flow.teacher import frozen
from core.objectives.objective import Batch, FlowMatching, RowKind, Term
from core.objectives.row import make_row
from core.objectives.rows import RowObjective, row_losses
from core.objectives.weights import Adaptive
from core.oracle import OracleMap
from core.times.distributions import Uniform
from core.times.pairs import Diagonal, OrderedPair
from plugins.meanflow.imf import BoundaryJump, HeadJump
from plugins.meanflow.mf import MeanFlowJump
from tests.objectives.terms import JUMPS, STEP, TERMS, TinyNet

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
        kind = RowKind("jump", 1.0, Diagonal(), term)
        players = {"model": model}
        return row_losses(kind, players, {"model": target or frozen(model)}, row)[0]["model"]

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
    kind = RowKind("jump", 1.0, OrderedPair(Uniform(0.05, 1.0), Uniform(0.05, 1.0)), FlowMatching())
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
        weights = [lambda R, p=p: Adaptive(power=p)(R, row.unit) / 2 for p in powers]
        return left, [jax.grad(weight)(left) for weight in weights]

    left, updates = jax.jit(jax.vmap(one))(jr.split(getkey(), n))
    for power, update in zip(powers, updates):
        mean, error = jnp.mean(update), jnp.std(update) / n**0.5
        assert bool(jnp.abs(mean) > 4 * error) == (power > 0)
        assert power == 0 or jnp.abs(mean / jnp.mean(update / left)) > 0.05
