"""Losses of consistency models: limits, equal gradients, groups and stabilisers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from core.conformance import problems
from core.conformance.rows import P0_BOUND, _group_size
from core.flow.flow_map import AverageVelocityMap, FlowMap
from core.flow.path import LinearPath, Path
from core.flow.teacher import frozen
from core.objectives.log_weight import log_weight
from core.objectives.objective import FlowMatching, RowKind
from core.objectives.row import make_row
from core.objectives.rows import LOG_WEIGHT, row_losses
from core.objectives.weights import Norm, Squared, Timed
from core.oracle import OracleMap
from core.times.pairs import Diagonal
from core.times.weights import Even
from plugins.consistency.jump import ConsistencyJump, SameNoise, TrueJump, VelocityJump
from plugins.consistency.moments import JumpMoments, Laplace, TimeAware, VelocityMoments
from plugins.consistency.scm import StabilisedTangent
from plugins.consistency.tangent import TangentJump, VelocityTangent
from tests.compiling import once
from tests.objectives.terms import TinyNet

PATH = LinearPath()


def made_rows(n, gap=0.05, t=0.1, seed=0):
    def one(key):
        key_data, key_noise, key_time, key_row = jr.split(key, 4)
        s = jr.uniform(key_time, (), minval=0.4, maxval=0.95)
        x_0, z = jr.normal(key_data, (2,)), jr.normal(key_noise, (2,))
        t_row = jnp.asarray(t, s.dtype)
        return make_row(PATH, x_0, z, s, t_row, None, key_row, u=s - gap)

    return jax.vmap(one)(jr.split(jr.key(seed), n))


def rows(*args, **kwargs):
    return once(lambda: made_rows(*args, **kwargs))()


def net(seed=0):
    return AverageVelocityMap(TinyNet((2,), key=jr.key(seed)), PATH)


@once
def gradient(term, weight, model, batch):
    """The mean loss, and its flat gradient."""
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    def loss(arrays):
        player = eqx.combine(arrays, static)

        def one(row):
            (residual,) = term.residuals({"model": player}, {"model": frozen(model)}, row)["model"]
            return weight(residual, row.unit)

        return jnp.mean(jax.vmap(one)(batch))

    value, tree = jax.value_and_grad(loss)(arrays)
    return value, jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])


@pytest.mark.slow
def test_finite_steps_over_the_step_tend_to_the_tangent_at_first_order(x64):
    """Proposition 1 of the lecture notes: (1 / h) grad L_h -> grad L_infinity, with error O(h)."""
    model = net()
    _, limit = gradient(TangentJump(), Squared(), model, rows(32))
    errors = []
    for h in (0.02, 0.01, 0.005):
        _, found = gradient(ConsistencyJump(SameNoise()), Squared(), model, rows(32, gap=h))
        errors.append(np.linalg.norm(found / h - limit))
    slopes = np.log2(np.asarray(errors[:-1]) / np.asarray(errors[1:]))
    np.testing.assert_allclose(slopes, 1.0, atol=0.1)
    assert errors[-1] < 0.05 * np.linalg.norm(limit)


def test_the_velocity_form_has_the_gradient_of_the_jump_and_another_value(x64):
    """Under the norm; the jump's loss is divided by s - t, and one value is (s - u) / (s - t)
    times the other."""
    model = net()
    for seed in range(4):
        batch = rows(1, seed=seed)
        reach = float(batch.s[0] - batch.t[0])
        jump_value, jump = gradient(ConsistencyJump(SameNoise()), Norm(), model, batch)
        value, velocity = gradient(VelocityJump(SameNoise()), Norm(), model, batch)
        np.testing.assert_allclose(jump / reach, velocity, rtol=1e-9, atol=1e-12)
        assert float(jump_value / reach) == pytest.approx(float(value) * 0.05 / reach, rel=1e-9)


def test_the_velocity_form_tends_to_its_exact_derivative_and_is_flow_matching_without_a_gap():
    @once
    def run(model):
        near, at_once = made_rows(8, gap=1e-3), made_rows(8, gap=0.0)
        jump, tangent = VelocityJump(SameNoise()), VelocityTangent()
        quotients = [
            jax.vmap(lambda row: jump(model, model, row))(made) for made in (near, at_once)
        ]
        exact = jax.vmap(lambda row: tangent(model, model, row))(near)
        velocity = jax.vmap(lambda row: model.average_velocity(row.x_s, row.s, row.t) - row.v)
        return quotients, exact, velocity(at_once)

    (quotient, at_once), exact, velocity = run(net())
    np.testing.assert_allclose(quotient, exact, atol=5e-3)
    assert not np.allclose(quotient, exact, atol=1e-6)
    np.testing.assert_allclose(at_once, velocity, atol=1e-6)


@once
def moments_loss(term, model, group, weight=Timed(Even())):
    """The loss of a group, and what it logs."""
    return term.loss(model, frozen(model), group, weight)


def test_a_group_of_one_is_the_consistency_loss():
    """Twice the norm of A - B over the gap, damped by the kernel of the gap where printed."""
    model, group = net(), rows(1)
    for symmetric, damping in ((True, 1.0), (False, np.exp(-0.05 / 0.1))):
        kernel = TimeAware(0.1, symmetric=symmetric)
        term = VelocityMoments(neighbour=SameNoise(), kernel=kernel, size=1)

        @once
        def particles(model, group, term=term):
            return term.particles(model, model, jax.tree.map(lambda leaf: leaf[0], group))

        A, B = particles(model, group)
        expected = 2 * damping * np.linalg.norm(A - B) / 0.05
        assert moments_loss(term, model, group)[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    "term",
    [
        JumpMoments(neighbour=SameNoise(), kernel=Laplace(), size=4),
        VelocityMoments(neighbour=SameNoise(), kernel=TimeAware(), size=4),
    ],
)
def test_a_group_logs_the_residuals_that_its_rows_have_alone(term):
    model, group = net(), rows(4)
    _, logged = moments_loss(term, model, group)
    single = term.single()
    alone = once(lambda m, rows: jax.vmap(lambda row: single(m, frozen(m), row))(rows))(
        model, group
    )
    assert logged == pytest.approx(np.mean(alone**2), rel=1e-4)


@pytest.mark.slow
def test_the_printed_kernel_moves_the_exact_map_and_the_symmetric_one_does_not(x64):
    exact = OracleMap(problem=problems()["mixture"], path=PATH)
    x_0, z = jax.vmap(exact.problem.sample)(jr.split(jr.key(0), 64)), jr.normal(jr.key(1), (64, 1))
    s = jr.uniform(jr.key(2), (64,), minval=0.4)
    make = jax.vmap(lambda x, z, s: make_row(PATH, x, z, s, s / 4, None, jr.key(3), u=s - 0.02))
    groups = jax.tree.map(lambda leaf: leaf.reshape(-1, 4, *leaf.shape[1:]), make(x_0, z, s))
    sizes = []
    for symmetric in (True, False):
        kernel = TimeAware(0.1, symmetric=symmetric)
        term = VelocityMoments(neighbour=TrueJump(exact), kernel=kernel, size=4)
        sizes.append(float(_group_size(term, Timed(Even()), exact, groups)))
    assert sizes[0] <= P0_BOUND < 1e-3 < sizes[1]


class Offset(FlowMap):
    """The map with a constant added to where its jumps land."""

    exact: FlowMap
    psi: Array
    path: Path

    def average_velocity(self, x, s, t, cond=None):
        return self.exact.average_velocity(x, s, t, cond) + self.psi / (t - s)


@pytest.mark.slow
def test_the_update_of_moment_matching_fades_as_groups_grow(x64):
    """On pairs, equality holds in distribution only: at a fixed step the bias falls with the
    group."""
    exact = OracleMap(problem=problems()["mixture"], path=PATH)
    s, u, t = (jnp.asarray(value) for value in (0.8, 0.5, 0.0))

    def bias(size):
        term = JumpMoments(neighbour=SameNoise(), kernel=Laplace(), size=size)

        def one(key):
            key_data, key_noise = jr.split(key)
            x_0 = jax.vmap(exact.problem.sample)(jr.split(key_data, size))
            z = jr.normal(key_noise, (size, 1))
            group = jax.vmap(lambda a, b: make_row(PATH, a, b, s, t, None, key, u=u))(x_0, z)

            def loss(psi):
                return term.loss(Offset(exact, psi, PATH), exact, group, Timed(Even()))[0]

            return jax.grad(loss)(jnp.zeros(()))

        return abs(float(jnp.mean(jax.jit(jax.vmap(one))(jr.split(jr.key(1), 16_384 // size)))))

    assert bias(1) > 3 * bias(8)


def test_warm_up_goes_from_velocity_matching_to_the_tangent(x64):
    """At progress 0 the exact map is not stationary; from `warmup` on it is."""

    @once
    def run(problem, progress):
        exact = OracleMap(problem=problem, path=PATH)
        x, s = jnp.array([0.3]), jnp.asarray(0.6)
        v = exact.velocity(x, s)
        row = make_row(PATH, x - s * v, x + (1 - s) * v, s, jnp.zeros(()), None, jr.key(0))

        def size(progress):
            at = eqx.tree_at(lambda r: r.progress, row, progress)
            return jnp.abs(StabilisedTangent(warmup=0.2)(exact, exact, at))[0]

        return jax.vmap(size)(progress)

    sizes = run(problems()["mixture"], np.array([0.0, 0.1, 0.2, 1.0]))
    assert sizes[0] > 0.02 and sizes[1] == pytest.approx(sizes[0] / 2)
    assert max(sizes[2:]) < 1e-9


def test_a_learned_weight_is_still_where_the_weighted_loss_is_one():
    kind = RowKind("diagonal", 1.0, Diagonal(), FlowMatching())
    model, batch, fresh = net(), rows(1), log_weight(jr.key(0))

    @once
    def run(model, fresh, batch, level):
        row = jax.tree.map(lambda leaf: leaf[0], batch)

        def losses(level):
            player = eqx.tree_at(lambda w: w.output.bias, fresh, jnp.full(1, level))
            players = {"model": model, LOG_WEIGHT: player}
            return row_losses(kind, players, players, row)[0]

        return losses(level), jax.jacrev(losses)(level)

    at = {level: run(model, fresh, batch, np.float32(level)) for level in (0.0, 0.3, 1.0)}
    plain = at[0.0][0]["model"]
    still = run(model, fresh, batch, -np.log(plain))[1][LOG_WEIGHT]
    assert still == pytest.approx(0.0, abs=1e-5)
    assert at[0.0][1][LOG_WEIGHT] == pytest.approx(plain - 1, rel=1e-5)
    assert at[1.0][0]["model"] == pytest.approx(plain * np.e, rel=1e-5)
    assert at[0.3][1]["model"] == 0
