"""Where gradients stop, and what the exact map leaves of each residual."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
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
from tests.compiling import once
from tests.objectives.terms import JUMPS, STEP, TERMS, TinyNet

# --- Gradients: one random network, one row, float64 ---


@pytest.fixture
def case(x64, getkey, normal):
    """A random map and the parts of a row: `x_0`, `z` and a key."""
    model = AverageVelocityMap(TinyNet((3,), key=getkey()), TrigPath())
    return model, (normal(3), normal(3), getkey())


def row_of(x_0, z, key):
    return make_row(TrigPath(), x_0, z, jnp.asarray(1.1), jnp.asarray(0.4), None, key)


def derivative(model, row, tau, h=1e-5):
    """Central differences of the average velocity along `(tau, 1)`."""

    def V(x, s):
        return model.average_velocity(x, s, row.t)

    return (V(row.x_s + h * tau, row.s + h) - V(row.x_s - h * tau, row.s - h)) / (2 * h)


def gradients(model, parts, *functions):
    """Value and flat gradient of each `function(model, row)`, in one program."""
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    @once
    def run(arrays, parts):
        row, found = row_of(*parts), []
        for function in functions:

            def value(arrays, function=function):
                return function(eqx.combine(arrays, static), row)

            loss, gradient = jax.value_and_grad(value)(arrays)
            found.append((loss, jnp.concatenate([a.ravel() for a in jax.tree.leaves(gradient)])))
        return found

    return run(arrays, parts)


def loss(term):
    def value(model, row, target=None):
        kind = RowKind("jump", 1.0, Diagonal(), term)
        players = {"model": model}
        return row_losses(kind, players, {"model": target or frozen(model)}, row)[0]["model"]

    return value


def test_meanflow_regresses_a_constant_target(case):
    def regression(m, row):
        target = row.v + (row.t - row.s) * frozen(derivative(frozen(m), row, row.v))
        return jnp.sum((m.average_velocity(row.x_s, row.s, row.t) - target) ** 2)

    found, expected = gradients(*case, loss(MeanFlowJump()), regression)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-8)
    assert found[0] == pytest.approx(expected[0], rel=1e-6)


@pytest.mark.parametrize("head", [False, True])
def test_improved_meanflow_stops_the_derivative_and_the_tangent(case, head):
    def regression(m, row):
        fixed = frozen(m)
        v_head = fixed.with_velocity(row.x_s, row.s, row.s)[1]
        tau = v_head if head else fixed.velocity(row.x_s, row.s)
        constant = row.v + (row.t - row.s) * derivative(fixed, row, tau)
        V, v_head = m.with_velocity(row.x_s, row.s, row.t)
        auxiliary = jnp.sum((v_head - row.v) ** 2) if head else 0.0
        return jnp.sum((V - constant) ** 2) + auxiliary

    found, expected = gradients(*case, loss(HeadJump() if head else BoundaryJump()), regression)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-8)


class Unstopped(Term):
    """MeanFlow without its stop-gradient: what the tests above must tell apart."""

    def __call__(self, model, target, row):
        def V(x, s):
            return model.average_velocity(x, s, row.t)

        value, slope = jax.jvp(V, (row.x_s, row.s), (row.v, jnp.ones_like(row.s)))
        return value - row.v - (row.t - row.s) * slope


def test_the_stop_gradient_changes_the_gradient_and_not_the_loss(case):
    stopped, free = gradients(*case, loss(MeanFlowJump()), loss(Unstopped()))
    assert free[0] == pytest.approx(float(stopped[0]), rel=1e-12)
    assert np.linalg.norm(free[1] - stopped[1]) > 0.01 * np.linalg.norm(stopped[1])


@pytest.mark.parametrize("name", TERMS)
def test_gradient_reaches_the_trained_parameters_and_never_those_of_the_target(name, case):
    model, parts = case
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    @once
    def run(arrays, parts):
        row = row_of(*parts)

        def value(trained, target):
            models = eqx.combine(trained, static), frozen(eqx.combine(target, static))
            return loss(TERMS[name])(models[0], row, models[1])

        return jax.grad(value, (0, 1))(arrays, arrays)

    for_model, for_target = run(arrays, parts)
    net, head = for_model.net, "head" in name
    assert all(np.any(part != 0) for part in (net.first, net.second))
    assert np.any(net.head != 0) == head
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(for_target))


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
    imf, mf = loss(BoundaryJump()), loss(MeanFlowJump())

    def wrapped(model, row):
        return imf(PairVelocity(model, row.v, model.path), row)

    same, expected, own = gradients(*case, wrapped, mf, imf)
    assert same[0] == pytest.approx(float(expected[0]), rel=1e-12)
    np.testing.assert_allclose(same[1], expected[1], rtol=1e-12, atol=1e-14)
    assert not np.allclose(own[1], expected[1], rtol=1e-2)


# --- At the exact map: what is left of a residual, row by row ---


def sampled_rows(exact, key, n=16):
    key_data, key_rows = jr.split(key)
    x_0 = jax.vmap(exact.problem.sample)(jr.split(key_data, n))
    kind = RowKind("jump", 1.0, OrderedPair(Uniform(0.05, 1.0), Uniform(0.05, 1.0)), FlowMatching())
    return RowObjective(exact.path, (kind,)).rows(kind, Batch(x_0), key_rows, STEP)


def pushed_forward(exact, rows, direction, h=1e-5):
    """`grad F . direction` by central differences of the closed form."""
    F = jax.vmap(exact)
    there, back = (F(rows.x_s + d * direction, rows.s, rows.t) for d in (h, -h))
    return (there - back) / (2 * h)


@pytest.mark.parametrize("name", ["mixture", "gaussian"])
def test_what_the_exact_map_leaves_of_each_residual(name, x64, getkey):
    """MeanFlow: the excess velocity carried along by the map; its descendant: the excess itself."""

    @once
    def run(problem, key):
        exact = OracleMap(problem, LinearPath())
        rows = sampled_rows(exact, key)
        terms = list(JUMPS.values())[:2]
        mf, imf = (jax.vmap(lambda r, t=t: t(exact, exact, r))(rows) for t in terms)
        v = jax.vmap(lambda x, s: exact.problem.velocity(exact.path, x, s))(rows.x_s, rows.s)
        return mf, imf, v - rows.v, pushed_forward(exact, rows, v - rows.v)

    mf, imf, excess, pushed = run(problems()[name], getkey())
    np.testing.assert_allclose(mf, pushed, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(imf, excess, rtol=1e-9, atol=1e-9)
    assert np.max(np.abs(pushed - excess)) > 0.1


def test_a_weight_that_depends_on_the_residual_moves_the_minimiser(x64, getkey):
    """At the true map of a skewed mixture `E[R] = 0`, but `E[w R]` is not: hence power 0."""
    n, path, powers = 20_000, LinearPath(), (0.0, 0.5, 1.0)

    @once
    def run(problem, key):
        exact = OracleMap(problem, path)
        x_s, s, t = jnp.array([-0.6]), jnp.asarray(0.5), jnp.asarray(0.1)

        def one(key):  # a pair that passes through x_s
            x_0 = problem.sample_posterior(path, key, x_s, s)
            row = make_row(path, x_0, (x_s - (1 - s) * x_0) / s, s, t, None, key)
            left = MeanFlowJump()(exact, exact, row)
            weights = [lambda R, p=p: Adaptive(power=p)(R, row.unit) / 2 for p in powers]
            return left, [jax.grad(weight)(left) for weight in weights]

        return jax.vmap(one)(jr.split(key, n))

    left, updates = run(problems()["mixture"], getkey())
    for power, update in zip(powers, updates):
        mean, error = np.mean(update), np.std(update) / n**0.5
        assert (np.abs(mean) > 4 * error) == (power > 0)
        assert power == 0 or np.abs(mean / np.mean(update / left)) > 0.05
