"""Training towards a reward, and maps of posteriors, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.linalg import sqrtm

from core.conformance import check_plugin, problems
from core.data.dataset import Dataset
from core.errors import UserError
from core.flow.condition import Condition
from core.flow.path import LinearPath, TrigPath
from core.flow.posterior import States, conditioned_on, posterior_jump
from core.methods.plugin import Task
from core.nets import DiTConfig, MLPConfig, UNetConfig
from core.objectives.objective import Batch
from core.objectives.rows import RowObjective
from core.oracle import GaussianProblem, OracleMap, mixture_1d
from plugins.tilting import MFM, RWFM
from plugins.tilting.weighted import RewardWeights
from tests.objectives.terms import TinyNet

pytestmark = pytest.mark.slow

MEAN, COVARIANCE = np.array([0.5, -0.3]), np.array([[1.44, 0.6], [0.6, 0.61]])


def gaussian():
    return GaussianProblem(jnp.asarray(MEAN), jnp.asarray(COVARIANCE))


def updates(plugin):
    only = {"gaussian": problems()["gaussian"]}
    checks = check_plugin(plugin, LinearPath(), problems=only, rows=2048)
    return [check for check in checks if check.kind == "E0"]


def test_without_the_weights_the_tilted_map_is_no_fixed_point(x64, monkeypatch):
    monkeypatch.setattr(RowObjective, "weighed", lambda self, batch: batch)
    assert all(check.value > check.bound for check in updates(RWFM.variants()[""]))


def test_a_state_of_another_example_is_no_posterior(x64, monkeypatch):
    """The usual mistake: it teaches the network to ignore the state."""
    right, problem = States.__call__, problems()["gaussian"]

    def wrong(self, path, x_0, cond, key):
        return right(self, path, problem.sample(jr.fold_in(key, 1)), cond, key)

    monkeypatch.setattr(States, "__call__", wrong)
    assert all(check.value > check.bound for check in updates(MFM.preset("points")))


def test_tilted_distributions_are_the_published_ones(x64):
    tilted = gaussian().tilted(jnp.array([1.0, -0.7]))
    np.testing.assert_allclose(tilted.mean, [1.52, -0.127], atol=1e-12)
    prior = mixture_1d(jnp.array([0.3, 0.7]), jnp.array([-2.0, 1.0]), jnp.array([0.5, 0.4]))
    after = prior.tilted(jnp.ones(1))
    assert float(jnp.sum(after.weights * after.means)) == pytest.approx(1.0965, abs=5e-5)
    assert float(after.weights[0, 0]) == pytest.approx(0.0218, abs=5e-5)
    zero = LinearPath(), jnp.array([[0.3], [1.7]]), jnp.zeros(())
    low, high = (
        jax.vmap(lambda x: p.log_prob(zero[0], x, zero[2]))(zero[1]) for p in (prior, after)
    )
    assert float(jnp.diff(high - low)[0]) == pytest.approx(1.4)  # the slope of the reward


@pytest.mark.parametrize("path", [LinearPath(), TrigPath()], ids=["linear", "trig"])
def test_the_exact_map_draws_from_the_posterior_of_a_gaussian(path, x64):
    """`X(y, 1, 0 | x, t) = D(x, t) + Sigma_t^(1/2) y`, written out with matrices."""
    x, y, t = np.array([0.7, -1.1]), np.array([0.4, 1.3]), path.time_of_unit(0.6)
    a, b = float(path.alpha(t)), float(path.sigma(t))
    A = a**2 * COVARIANCE + b**2 * np.eye(2)
    D = MEAN + a * COVARIANCE @ np.linalg.solve(A, x - a * MEAN)
    root = np.real(sqrtm(b**2 * COVARIANCE @ np.linalg.inv(A)))
    exact = OracleMap(problem=gaussian(), path=path)
    drawn = posterior_jump(exact, jnp.asarray(y), jnp.asarray(x), t)
    np.testing.assert_allclose(drawn, D + root @ y, rtol=1e-9)
    blind = posterior_jump(exact, jnp.asarray(y), jnp.asarray(x), path.time_of_unit(1.0))
    plain = exact(jnp.asarray(y), path.time_of_unit(1.0), path.time_of_unit(0.0))
    np.testing.assert_allclose(blind, plain, rtol=1e-9)  # at t = 1 nothing was seen


def test_states_are_noised_from_their_own_example_and_some_see_nothing(x64):
    x_0 = 3.0 * jr.normal(jr.key(0), (4000, 2))
    see = States(nothing=0.25, least=0.1)
    cond = jax.vmap(lambda x, key: see(LinearPath(), x, None, key))(x_0, jr.split(jr.key(1), 4000))
    assert cond.state is not None and cond.state_time is not None
    time = np.asarray(cond.state_time)
    blind = time == 1
    assert abs(blind.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000) and time.min() == 0.1
    assert not np.any(np.asarray(cond.state)[blind])
    seen, t = np.asarray(cond.state)[~blind], time[~blind, None]
    noise = (seen - (1 - t) * np.asarray(x_0)[~blind]) / t
    assert noise.std() == pytest.approx(1, abs=0.05)
    assert abs(np.corrcoef(noise[:, 0], np.asarray(x_0)[~blind, 0])[0, 1]) < 4 / np.sqrt(3000)
    cond = conditioned_on(TrigPath(), jnp.ones(2), jnp.asarray(np.pi / 4))
    assert cond.state is not None and cond.state_time is not None
    np.testing.assert_allclose(cond.state, np.full(2, np.sqrt(0.5)))  # on the linear path
    np.testing.assert_allclose(cond.state_time, 0.5)


NETS = {
    "mlp": (MLPConfig(width=8, depth=2), (3,)),
    "mlp decoupled": (MLPConfig(width=8, depth=2, encoder_depth=1), (3,)),
    "dit": (DiTConfig(width=8, depth=1, heads=2), (4, 4, 1)),
    "unet": (UNetConfig(channels=4, multipliers=(1,), attention=()), (4, 4, 1)),
}


@pytest.mark.parametrize("name", NETS)
def test_networks_see_the_state_and_its_time_where_they_are_built_for_it(name):
    config, shape = NETS[name]
    takes = dataclasses.replace(config, state=True).build(shape, 0, key=jr.key(0))
    deaf = config.build(shape, 0, key=jr.key(0))

    def busy(net):
        leaves, tree = jax.tree.flatten(net)
        draw = np.random.default_rng(0)
        filled = [jnp.asarray(0.3 * draw.normal(size=a.shape), "f4") for a in leaves]
        return jax.tree.unflatten(tree, filled)

    x, s, t = jr.normal(jr.key(1), shape), jnp.asarray(0.8), jnp.asarray(0.2)
    nothing = Condition(state=jnp.zeros(shape), state_time=jnp.ones(()))
    some = Condition(state=jnp.ones(shape), state_time=jnp.ones(()))
    other = Condition(state=jnp.ones(shape), state_time=jnp.asarray(0.4))

    @jax.jit
    def outputs(net):
        given = jax.tree.map(lambda *leaves: jnp.stack(leaves), nothing, some, other)
        return net(x, s, t), *jax.vmap(lambda cond: net(x, s, t, cond))(given)

    blind, zeros, seen, earlier = outputs(busy(takes))
    np.testing.assert_allclose(blind, zeros, rtol=1e-4, atol=1e-5)
    assert float(jnp.max(jnp.abs(seen - zeros))) > 1e-3 < float(jnp.max(jnp.abs(earlier - seen)))
    alike = outputs(busy(deaf))
    assert all(jnp.allclose(alike[0], one, atol=1e-5) for one in alike) and alike[0].shape == shape


def points(scale):
    values = scale * np.random.default_rng(0).normal(size=(500, 2)).astype(np.float32)
    return Dataset(name="own", kind="points", shape=(2,), examples=values)


def built(plugin, data=None):
    task = Task((2,), data=data)
    return plugin.method(TinyNet((2,), key=jr.key(0)), LinearPath(), None, task, key=jr.key(1))


def weights_of(method):
    assert isinstance(method.objective.weigh, RewardWeights)
    return method.objective.weigh


def test_the_strength_counts_in_deviations_of_the_reward_over_the_data():
    data = points(5.0)
    method = built(RWFM(reward="linear:2,0", strength=1.5), data)
    weigh = weights_of(method)
    assert float(weigh.strength) == pytest.approx(1.5 / (2 * data.examples[:, 0].std()), rel=1e-4)
    assert float(weights_of(built(RWFM(lam=0.3), data)).strength) == pytest.approx(0.3)
    x_0 = jnp.asarray(data.examples[:8])
    weights = np.asarray(weigh(x_0))
    raw = np.exp(float(weigh.strength) * 2 * data.examples[:8, 0])
    np.testing.assert_allclose(weights, 8 * raw / raw.sum(), rtol=1e-4)
    metrics = method.objective(
        {"model": method.flow_map}, {"model": method.flow_map}, None, Batch(x_0), jr.key(0),
        jnp.zeros((), jnp.int32),
    )[2]  # fmt: skip
    assert float(metrics["effective"]) == pytest.approx(1 / np.mean(weights**2), rel=1e-4)


def test_rewards_that_do_not_serve_training_are_one_line():
    for plugin, message in (
        (RWFM(reward="linaer"), "did you mean 'linear'"),
        (RWFM(reward="class:3"), "--plugin.classifier"),
        (RWFM(reward="target:3"), "no data"),
        (RWFM(reward="brightness"), "images"),
    ):
        with pytest.raises(UserError, match=message):
            built(plugin)
    with pytest.raises(UserError, match="only the reward 'linear'"):
        RWFM(reward="python:math:sqrt").learns(gaussian())
    with pytest.raises(UserError, match="nothing"):
        MFM(nothing=2.0)
    with pytest.raises(UserError, match="least"):
        MFM(least=0.0)
