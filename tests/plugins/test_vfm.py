"""Variational flow maps against the closed forms of inpainting a Gaussian (G2: A = (1, 0))."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.integrate import solve_ivp

from core.errors import UserError
from core.flow.network import Network
from core.flow.path import LinearPath, TrigPath
from core.methods.plugin import Task
from core.objectives.objective import Batch
from core.oracle import GaussianProblem, OracleMap
from core.steering.adapter import NoiseAdapter, Observed, Proposal, noise_adapter
from core.steering.inverse import Masked
from core.steering.registry import RewardContext, make_reward
from core.steering.reward import Brightness, Observation
from core.steering.steering import Tilt, steer
from core.train.state import TargetParameters as Targets
from core.train.state import init_state
from core.train.step import make_step
from plugins.steering import VFMSNIS
from plugins.steering import VFMDraws as Draws
from plugins.tilting import VFM
from plugins.tilting.vfm import Variational, blank
from portolan.tilting import check_proposal
from tests.objectives.terms import STEP, TinyNet

pytestmark = pytest.mark.slow

MEAN, COVARIANCE = np.array([0.5, -0.3]), np.array([[1.44, 0.6], [0.6, 0.61]])
NOISE = 0.3
OF_Y = 1.44 + NOISE**2
GAIN = COVARIANCE[:, 0] / OF_Y
POSTERIOR = COVARIANCE - np.outer(GAIN, COVARIANCE[0])
PUBLISHED = {"mean field": (0.063, 0.466), "gap": 0.347}
ROOT = np.real(np.linalg.cholesky(COVARIANCE))
ONE, ZERO = jnp.ones(()), jnp.zeros(())


class Affine(eqx.Module):
    """An adapter's network for one number that is seen: `mu = w y + b` and `log sigma = l`."""

    w: jax.Array
    b: jax.Array
    log_std: jax.Array

    def __call__(self, given, s, t, cond=None):
        return jnp.concatenate([self.w * given[0] + self.b, self.log_std])


class LinearVelocity(Network):
    """`M(s, t) x + m(s, t)`, both of Legendre polynomials of degree four."""

    coefficients: jax.Array

    def __call__(self, x, s, t, cond=None):
        def legendre(a):
            third = (5 * a**3 - 3 * a) / 2
            fourth = (35 * a**4 - 30 * a**2 + 3) / 8
            return jnp.stack([jnp.ones_like(a), a, (3 * a**2 - 1) / 2, third, fourth])

        features = jnp.outer(legendre(2 * s - 1), legendre(2 * t - 1)).reshape(-1)
        table = jnp.tensordot(features, self.coefficients, 1)
        return table[:, :2] @ x + table[:, 2]


def adapter_of(w, b, variances):
    return NoiseAdapter(Affine(*(jnp.asarray(v) for v in (w, b, np.log(variances) / 2))))


def mean_field(L):
    """The best diagonal adapter for `F(z) = m + L z`: the exact mean, and the variances."""
    precision = np.eye(2) + np.outer(L[0], L[0]) / NOISE**2
    w = np.linalg.solve(precision, L[0]) / NOISE**2
    return w, 1 / np.diag(precision), precision


def kl(mean_0, cov_0, mean_1, cov_1):
    d, ratio = mean_1 - mean_0, np.linalg.solve(cov_1, cov_0)
    return (np.trace(ratio) + d @ np.linalg.solve(cov_1, d) - 2 - np.linalg.slogdet(ratio)[1]) / 2


def exact_map():
    return OracleMap(
        problem=GaussianProblem(jnp.asarray(MEAN), jnp.asarray(COVARIANCE)), path=LinearPath()
    )


def affine_of(flow_map):
    """`F(z, 1, 0) = c + L z`."""
    jump = lambda z: flow_map(z, ONE.astype(z.dtype), ZERO.astype(z.dtype))  # noqa: E731
    return np.asarray(jump(jnp.zeros(2))), np.asarray(jax.jacfwd(jump)(jnp.zeros(2)))


def method_of(net, **flags):
    plugin = VFM(
        reward="mask", noise=NOISE, diagonal=0.5, full=0.25, uniform=0.75, power=0.0, **flags
    )
    return plugin.method(net, LinearPath(), None, Task((2,)), key=jr.key(0))


def drawn(key, n):
    return Batch(jnp.asarray(MEAN)[None] + jr.normal(key, (n, 2)) @ jnp.asarray(ROOT.T))


def test_the_noise_posterior_of_inpainting_is_the_published_one(x64):
    """Of the exact map: its covariance, the variances of the mean field, and what they miss."""
    _, L = affine_of(exact_map())
    _, variances, precision = mean_field(L)
    exact = [[0.126, -0.243], [-0.243, 0.933]]
    np.testing.assert_allclose(np.linalg.inv(precision), exact, atol=5e-4)
    np.testing.assert_allclose(variances, PUBLISHED["mean field"], atol=5e-4)
    gap = kl(np.zeros(2), np.diag(variances), np.zeros(2), np.linalg.inv(precision))
    assert gap == pytest.approx(PUBLISHED["gap"], abs=5e-4)


@pytest.fixture(scope="module")
def around_the_exact_map():
    """`(objective, slopes)`: the adapter's gradient on 128 batches of 64, of `w`, `b`, `l`, and the
    loss of one of them; the map is the exact one."""
    with jax.enable_x64(True):
        flow_map = exact_map()
        objective = method_of(TinyNet((2,), key=jr.key(0))).objective
        assert isinstance(objective, Variational)

        @jax.jit
        def run(adapter, alpha, tau, keys):
            own = dataclasses.replace(objective, alpha=alpha, tau=tau)

            def loss(adapter, key):
                players = {"model": flow_map, "adapter": adapter}
                batch = drawn(jr.fold_in(key, 1), 64)
                return own(players, {"model": flow_map}, None, batch, key, STEP)[0]["adapter"]

            return jax.vmap(jax.value_and_grad(loss), (None, 0))(adapter, keys)

        def slopes(adapter, alpha, tau):
            keys = jr.split(jr.key(3), 128)
            losses, found = run(adapter, jnp.asarray(alpha), jnp.asarray(tau), keys)
            parts = found.net.w, found.net.b, found.net.log_std
            return losses, np.concatenate([np.asarray(part) for part in parts], axis=1)

    return slopes


def best(scale=1.0):
    """The mean-field optimum of the exact map, its variances scaled."""
    _, L = affine_of(exact_map())
    w, variances, _ = mean_field(L)
    return adapter_of(w, -w * MEAN[0], scale * variances)


def largest(slopes):
    return np.max(np.abs(slopes.mean(0)) / (slopes.std(0, ddof=1) / np.sqrt(len(slopes))))


def test_around_a_fixed_map_the_mean_field_adapter_is_the_optimum(x64, around_the_exact_map):
    """Nothing but the observation and the divergence teach it where no pair has its noise."""
    assert largest(around_the_exact_map(best(), 0.0, 1.0)[1]) < 4
    assert largest(around_the_exact_map(best(1.1), 0.0, 1.0)[1]) > 4


def test_the_gradient_of_the_adapter_is_that_of_its_loss(x64, around_the_exact_map):
    """By central differences, with every pair from the adapter: nothing of the map's term is hidden
    from the noise."""
    at, step = best(1.2), 1e-5
    slope = around_the_exact_map(at, 1.0, 0.5)[1].mean(0)
    without = around_the_exact_map(at, 1.0, 1e9)[1].mean(0)
    assert np.abs(slope - without).max() > 0.1
    leaves, tree = jax.tree.flatten(at)
    for i, leaf in enumerate(leaves):
        for j in range(2):
            values = []
            for side in (step, -step):
                moved = [*leaves[:i], leaf.at[j].add(side), *leaves[i + 1 :]]
                moved = jax.tree.unflatten(tree, moved)
                values.append(float(around_the_exact_map(moved, 1.0, 0.5)[0].mean()))
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(slope[2 * i + j], rel=1e-5)


def predicted(alpha):
    """KL of the samples from the posterior where map and adapter have settled, from covariances
    alone (large tau): the flow of the pairs' linear velocity and the mean field of that flow."""
    L, w, S = np.eye(2), np.zeros(2), np.ones(2)
    for _ in range(30):
        K = alpha * np.outer(COVARIANCE[:, 0], w)
        Z = alpha * (OF_Y * np.outer(w, w) + np.diag(S)) + (1 - alpha) * np.eye(2)

        def velocity(t, flat, K=K, Z=Z):
            now = (1 - t) ** 2 * COVARIANCE + t**2 * Z + t * (1 - t) * (K + K.T)
            joint = (1 - t) * (K.T - COVARIANCE) + t * (Z - K)
            return (joint @ np.linalg.solve(now, flat.reshape(2, 2))).reshape(-1)

        L = solve_ivp(velocity, (1, 0), np.eye(2).reshape(-1), rtol=1e-6).y[:, -1].reshape(2, 2)
        w, S, _ = mean_field(L)
    off = (L @ w - GAIN) * np.sqrt(OF_Y)
    return kl(np.zeros(2), L @ np.diag(S) @ L.T, off, POSTERIOR)


@pytest.fixture(scope="module")
def trained():
    """`alpha -> players` after 1,500 training steps of a linear map and a linear adapter."""
    steps, n = 1500, 1024
    method = method_of(LinearVelocity(jnp.zeros((25, 2, 3))))
    zeros = np.zeros(2, "f4")
    fresh = {"model": method.flow_map, "adapter": adapter_of(zeros, zeros, np.ones(2))}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.005, steps), b2=0.99)
    targets = Targets(decay=0.95)
    start, static = init_state(fresh, method.objective, optimizer, jr.key(1), targets)
    step = make_step(static, optimizer, 0.995, targets)

    @jax.jit
    def train(alpha):
        objective = dataclasses.replace(method.objective, alpha=alpha, tau=3.0)
        keys = jr.split(jr.key(2), steps)
        many = lambda state, key: step(state, drawn(key, n), objective)  # noqa: E731
        return jax.lax.scan(many, start, keys)[0].ema

    return functools.cache(lambda alpha: eqx.combine(train(jnp.asarray(alpha)), static))


def moments_of(players):
    """`(gain, offset, covariance)`: given `y` the samples are `N(gain y + offset, covariance)`."""
    c, L = affine_of(players["model"])
    net = players["adapter"].net
    variances = np.exp(2 * np.asarray(net.log_std))
    return L @ np.asarray(net.w), c + L @ np.asarray(net.b), L @ np.diag(variances) @ L.T


SPREADS = {0.0: 0.015, 0.5: 0.01, 0.8: 0.0025}
"""Standard deviation over five seeds of the distance below, in nats."""


@pytest.mark.parametrize("alpha", sorted(SPREADS))
def test_a_map_that_is_trained_with_the_adapter_turns_its_noise(alpha, trained):
    """The samples are as far from the posterior as covariances foretell: 0.347 nats where no pair
    has the adapter's noise, 0.03 where four in five have."""
    gain, offset, covariance = moments_of(trained(alpha))
    values = MEAN[0] + np.sqrt(OF_Y) * np.array([-1.0, 1.0])  # of unit variance: the mean over y
    right = [MEAN + GAIN * (y - MEAN[0]) for y in values]
    found = np.mean(
        [kl(gain * y + offset, covariance, m, POSTERIOR) for y, m in zip(values, right)]
    )
    assert found == pytest.approx(predicted(alpha), abs=4 * SPREADS[alpha])
    assert alpha < 0.8 or found < 0.05


def reward_of(y):
    return Observation(jnp.array([y, 0.0]), jnp.array([1.0, 0.0]), NOISE)


def observed():
    return Observed(Masked(jnp.array([1.0, 0.0])), NOISE, (2,))


def test_draws_have_the_posterior_mean_and_covariance(trained):
    """Every pair with the adapter's noise; of a map without, the same test fails."""

    def errors(players, n=400):
        proposal = Proposal(players["adapter"], observed())
        tilt = Tilt(players["model"], reward_of(1.0), jnp.ones(()), (2,), proposal=proposal)
        x = steer(Draws(), tilt, n=n, islands=1, key=jr.key(5)).x
        variances = np.diag(POSTERIOR)
        mean = (x.mean(0) - MEAN - GAIN * (1 - MEAN[0])) / np.sqrt(variances / n)
        spread = np.sqrt((np.outer(variances, variances) + POSTERIOR**2) / n)
        return np.abs(np.r_[mean, ((np.cov(x.T) - POSTERIOR) / spread).reshape(-1)]).max()

    assert errors(trained(1.0)) < 4 < errors(trained(0.0))


@pytest.fixture(scope="module")
def weighed():
    """Islands of `vfm-snis` with the exact map and its mean-field adapter."""
    with jax.enable_x64(True):
        proposal = Proposal(best(), observed())
        reward = reward_of(1.0)
        tilt = Tilt(exact_map(), reward, jnp.ones(()), (2,), proposal=proposal)
        return steer(VFMSNIS(), tilt, n=64, islands=400, key=jr.key(6), together=400)


def test_weights_make_up_for_the_adapter(weighed):
    """`log Z` and the mean of the posterior, within four standard errors; the adapter alone would
    make the second coordinate too certain."""
    ratio = np.exp(weighed.log_z_islands + 1.49831)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 20
    x, w = weighed.x, weighed.weights
    mean = MEAN + GAIN * (1 - MEAN[0])
    for value, right in ((x, mean), ((x - mean) ** 2, np.diag(POSTERIOR))):
        error = np.sqrt(np.sum((w[:, None] * (value - right)) ** 2, axis=0))
        assert np.all(np.abs(w @ value - right) < 4 * error) and np.all(error < 0.05)
    assert weighed.ess[-1] > 0.3


def test_an_adapter_receives_the_observation_in_the_shape_of_an_example():
    """Observed values stay in their places; blocks of four become their mean."""
    image = jr.normal(jr.key(0), (4, 4, 1))
    context = RewardContext((4, 4, 1), blank((4, 4, 1)))
    for name, right, shown in (
        ("mask", image.at[:, 2:].set(0.0), jnp.zeros((4, 4, 1)).at[:, :2].set(1.0)),
        ("superres", jnp.kron(image.reshape(2, 2, 2, 2).mean((1, 3)), jnp.ones((2, 2))), 1.0),
    ):
        seen = Observed.of(make_reward((name,), (), context), (4, 4, 1))
        assert seen is not None
        given = seen.conditioning(seen.A(image))
        np.testing.assert_allclose(given[..., 0], right.reshape(4, 4), atol=1e-6)
        np.testing.assert_allclose(given[..., 1:], jnp.broadcast_to(shown, (4, 4, 1)), atol=1e-6)
        assert seen.same(seen) and not seen.same(dataclasses.replace(seen, noise=0.4))
    assert Observed.of(Brightness(), (4, 4, 1)) is None


@pytest.mark.parametrize("shape", [(3,), (8, 8, 1)])
def test_a_fresh_adapter_gives_standard_normal_noise(shape):
    adapter = noise_adapter(shape, 0, 8, 2, key=jr.key(0))
    mean, log_std = adapter(jr.normal(jr.key(1), (*shape[:-1], 2 * shape[-1])))
    assert mean.shape == log_std.shape == shape
    assert not np.any(mean) and not np.any(log_std)


def test_map_and_adapter_receive_the_same_label():
    plugin = VFM(label_drop=0.25)
    net = TinyNet((2,), key=jr.key(0))
    method = plugin.method(net, TrigPath(), None, Task((2,), num_classes=3), key=jr.key(1))
    objective = method.objective
    assert isinstance(objective, Variational) and objective.rows.label_drop == 0
    batch = Batch(jnp.zeros((4000, 2)), jnp.arange(4000) % 3)
    label = objective.dropped(batch, jr.key(2)).label
    assert label is not None
    dropped = np.asarray(label == 3)
    assert abs(dropped.mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 4000)
    assert np.array_equal(np.asarray(label)[~dropped], (np.arange(4000) % 3)[~dropped])


def test_what_does_not_serve_is_one_line():
    problems: list[tuple[dict[str, Any], str]] = [
        ({"reward": "linear"}, "no inverse problem"),
        ({"reward": "maks"}, "did you mean 'mask'"),
        ({"tau": 0.1}, "tau must exceed"),
        ({"noise": 0.0}, "noise must be positive"),
    ]
    for flags, message in problems:
        with pytest.raises(UserError, match=message):
            VFM(**flags).observation(Task((2,)))
    ranges: dict[str, Any] = {"alpha": 1.5, "target_decay": 1.0, "rate": 0.0, "width": 0}
    for name, value in ranges.items():
        with pytest.raises(UserError, match=name.replace("_", "-")):
            VFM(**{name: value})
    run = "imf", VFM().reward
    proposal = Proposal(adapter_of(np.ones(2), np.ones(2), np.ones(2)), observed())
    bare = Tilt(exact_map(), reward_of(1.0), jnp.ones(()), (2,))
    adapted = dataclasses.replace(bare, proposal=proposal)
    strong = dataclasses.replace(adapted, strength=jnp.asarray(2.0))
    other = dataclasses.replace(adapted, reward=Brightness())
    for method, tilt, message in (
        (Draws(), bare, "imf has trained none"),
        (VFMSNIS(), other, "write mask:INDEX,0.3"),
        (Draws(), strong, "add --lam 1"),
    ):
        with pytest.raises(UserError, match=message) as raised:
            check_proposal(method.name, method, tilt, *run)
        assert "\n" not in str(raised.value)
    check_proposal("vfm", Draws(), adapted, *run)
    check_proposal("vfm-snis", VFMSNIS(), strong, *run)
