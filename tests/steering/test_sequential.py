"""Kernels, potentials and look-aheads of sequential Monte Carlo, against chains known exactly."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from apps._tilt.cases import CONTROL, Forgetful
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import CosinePath, LinearPath
from core.steering.fixtures import chain_end, chain_linear, fixtures, gaussian_linear
from core.steering.glass import posterior_draw
from core.steering.kernels import Ancestral, make_kernel
from core.steering.reward import Linear
from core.steering.steering import Evaluations, Tilt, jackknife, steer
from plugins.steering import FK, SMC, TDS

pytestmark = pytest.mark.slow

G1 = 0.4, 1.5, 1.2


@pytest.fixture(scope="module")
def cases():
    with jax.enable_x64(True):
        chains = {name: chain_linear(name, 6, *G1) for name in ("em", "ancestral")}
        weak = gaussian_linear([0.4], [[1.5]], [0.3])
        return fixtures() | chains | {"weak": weak}


def score(steered, fixture):
    ratio = np.exp(steered.log_z_islands - fixture.log_z)
    return abs(ratio.mean() - 1) / (ratio.std(ddof=1) / np.sqrt(len(ratio)))


@pytest.mark.parametrize("steps, log_z", [(20, 1.4911), (50, 1.5311), (200, 1.5526)])
def test_the_euler_maruyama_chain_has_the_published_normaliser(steps, log_z):
    assert chain_linear("em", steps, *G1).log_z == pytest.approx(log_z, abs=6e-5)


@pytest.mark.parametrize("name", ["em", "ancestral"])
def test_a_chain_of_kernels_has_the_moments_of_the_recursion(name, cases, x64):
    """Every step is linear for Gaussian data: slope and offset from two states."""
    flow_map, kernel = cases["G1"].tilt().flow_map, make_kernel(name)
    times = jnp.linspace(1.0, 0.0, 7)

    @jax.jit
    def both(t, u):
        def step(x):
            predicted = kernel.prediction(flow_map, x, t, u)
            last = kernel.finish(flow_map.path, x, predicted, t, u)
            return *kernel.step(flow_map.path, x, predicted, t, u), last

        return step(jnp.zeros(1)), step(jnp.ones(1))

    m, V = 0.0, 1.0
    for t, u in zip(times[:-1], times[1:], strict=True):
        (zero, tau, zero_last), (one, _, one_last) = both(t, u)
        if u == 0:
            zero, one, tau = zero_last, one_last, 0.0
        slope = float((one - zero)[0])
        m, V = float(zero[0]) + slope * m, slope**2 * V + float(tau) ** 2
    np.testing.assert_allclose((m, V), chain_end(name, 6, 0.4, 1.5), rtol=1e-9)


def test_the_ancestral_kernel_is_the_bridge_of_two_views(x64):
    """Of `x_u` given `x_t` and `x_0`, by conditioning the joint Gaussian; on another path."""
    path = dataclasses.replace(CosinePath(), noise_std=0.7)
    t, u, x_0, x_t = jnp.asarray(0.8), jnp.asarray(0.3), jnp.array([0.6]), jnp.array([-1.1])
    a = path.alpha(t) / path.alpha(u)
    spread_u, spread_t = ((0.7 * path.sigma(s)) ** 2 for s in (u, t))
    gain = a * spread_u / spread_t
    mean = path.alpha(u) * x_0 + gain * (x_t - path.alpha(t) * x_0)
    mu, tau = Ancestral().step(path, x_t, x_0, t, u)
    np.testing.assert_allclose(mu, mean, rtol=1e-12)
    np.testing.assert_allclose(tau**2, spread_u - gain * a * spread_u, rtol=1e-12)


METHODS = {
    "fk diff": (FK(steps=3), "G1"),
    "fk max": (FK(steps=3, potential="max"), "weak"),
    "fk sum": (FK(steps=3, potential="sum"), "weak"),
    "tds": (TDS(steps=6), "ancestral"),
    "em": (SMC(steps=6, kernel="em"), "em"),
    "posterior": (SMC(steps=3, look="posterior", draws=2, inner=2), "G1"),
}


@pytest.mark.parametrize("name", METHODS)
def test_the_mean_of_z_is_that_of_the_chain(name, cases, x64):
    method, fixture = METHODS[name][0], cases[METHODS[name][1]]
    steered = steer(method, fixture.tilt(), n=16, islands=1000, key=jr.key(1), together=1000)
    assert score(steered, fixture) < 4
    parts = (steered.weights * (steered.x[:, 0] - fixture.mean[0])).reshape(1000, -1).sum(axis=1)
    assert abs(parts.sum()) < 4 * parts.std() * np.sqrt(len(parts))


@pytest.mark.parametrize(
    "potential, expected",
    [("diff", [0.3, -0.6, 0.9]), ("max", [0.3, 0.6, 1.5]), ("sum", [0.3, 0.0, 0.6])],
)
def test_potentials_put_the_rewards_so_far_together(potential, expected, cases, x64):
    """The logarithm of their product at states whose rewards are 0.3, -0.6 and 0.9."""
    method, particle, found = FK(potential=potential, look="naive"), None, []
    for x in (1.0, -2.0, 3.0):
        state, t = jnp.array([x]), jnp.asarray(0.5)
        particle = method.scored(cases["weak"].tilt(), state, t, jr.key(0), particle)
        found.append(float(particle.phi))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_twisted_diffusion_shifts_by_the_slope_at_the_old_state(cases, x64):
    """For a Gaussian the denoiser's reward has the slope `a (1 - t) C / A_t` everywhere."""
    tilt, t = cases["G1"].tilt(), jnp.asarray(0.6)
    judge = jax.jit(lambda x: TDS().scored(tilt, x, t, jr.key(0), None))
    slope = 1.2 * 0.4 * 1.5 / (0.16 * 1.5 + 0.36)
    particle, tau = judge(jnp.array([0.7])), jnp.asarray(0.2)
    for most, expected in ((float("inf"), 0.2 * slope), (0.005, 0.1)):
        method = TDS(twist_kl=most)
        shift = method.shift(tilt, particle, jnp.zeros(1), tau, t, jr.key(0))
        np.testing.assert_allclose(shift, [expected], rtol=1e-9)


def test_the_schedule_weighs_the_look_ahead(cases, x64):
    tilt, x = cases["G1"].tilt(), jnp.array([0.5])
    phi = [
        float(SMC(g=g, look="naive").scored(tilt, x, jnp.asarray(0.75), jr.key(0), None).phi)
        for g in ("1", "1-t")
    ]
    np.testing.assert_allclose(phi, [0.6, 0.15], rtol=1e-12)


def test_weights_that_are_forgotten_without_resampling_are_caught(cases, x64):
    """A released implementation forgets them. The threshold is low, so that they must be kept."""
    fixture, found = cases["G1"], []
    for method in (FK(steps=4, threshold=0.3), Forgetful(steps=4, threshold=0.3)):
        steered = steer(method, fixture.tilt(), n=16, islands=1000, key=jr.key(1), together=1000)
        found.append(score(steered, fixture))
    assert found[0] < 4 < found[1]
    assert isinstance(CONTROL.method, Forgetful)


def test_draws_of_the_inner_flow_are_the_posterior_of_a_gaussian(cases, x64):
    """The draw is linear in its noise, so that two draws tell its mean and spread."""
    flow_map, t, x = cases["G1"].tilt().flow_map, jnp.asarray(0.6), jnp.array([-0.2])
    draw = jax.jit(lambda y, key: posterior_draw(flow_map, y, t, key, None, 64))
    keys = jr.split(jr.key(0))
    y = jnp.stack([flow_map.path.prior(jr.split(key)[0], (1,)) for key in keys])[:, 0]
    z = jnp.stack([draw(x, key) for key in keys])[:, 0]
    A = 0.16 * 1.5 + 0.36
    spread = (z[1] - z[0]) / (y[1] - y[0])
    assert float(spread) == pytest.approx(np.sqrt(0.36 * 1.5 / A), rel=5e-3)
    mean = 0.4 + 0.4 * 1.5 / A * (-0.2 - 0.4 * 0.4)
    assert float(z[0] - spread * y[0]) == pytest.approx(mean, abs=5e-3)
    slope = jax.grad(lambda y: draw(y, keys[0])[0])(x)
    assert float(slope[0]) == pytest.approx(0.4 * 1.5 / A, rel=5e-3)


def test_draws_of_the_inner_flow_are_the_posterior_of_a_mixture(cases, x64):
    """A Gaussian hides errors of skewness; the figures are those of the specification."""
    flow_map, t, x = cases["M1"].tilt().flow_map, jnp.asarray(0.6), jnp.array([-0.2])
    draw = jax.jit(jax.vmap(lambda key: posterior_draw(flow_map, x, t, key, None, 32)))
    z = np.asarray(draw(jr.split(jr.key(0), 20_000)))[:, 0]
    assert z.mean() == pytest.approx(0.0762, abs=4 * z.std() / np.sqrt(len(z)))
    assert z.var() == pytest.approx(1.760, abs=0.05)
    assert np.log(np.mean(np.exp(z))) == pytest.approx(0.647, abs=0.03)


def test_from_pure_noise_the_posterior_is_the_prior(cases, x64):
    flow_map = cases["G1"].tilt().flow_map
    draw = jax.jit(lambda x: posterior_draw(flow_map, x, jnp.asarray(1.0), jr.key(0), None, 16))
    assert np.isfinite(draw(jnp.zeros(1))[0])
    np.testing.assert_allclose(draw(jnp.array([3.0])), draw(jnp.array([-3.0])), rtol=1e-12)


def test_costs_are_what_is_evaluated():
    """Counted by hand: smc with 3 steps and 2 shifts, and methods that use the velocity alone."""
    reward = Linear(jnp.ones(1))
    assert SMC(steps=3).cost(reward) == Evaluations(3 + 2, 2, 4 + 2)
    assert FK(steps=3).cost(reward) == Evaluations(3, 0, 4)
    assert FK(steps=3, rho=0.5).cost(reward) == Evaluations(3 + 2, 0, 4)
    assert TDS(steps=3).cost(reward) == Evaluations(0, 0, 4, 3, 3)
    assert FK(steps=3, kernel="em").cost(reward) == Evaluations(3, 0, 4, 3)
    posterior = FK(steps=3, look="posterior", draws=2, inner=5)
    assert posterior.cost(reward) == Evaluations(3, 0, 3 * 2 + 1, 3 * 10)
    # a solve of 16 evaluations makes only the map more expensive
    assert posterior.cost(reward).evaluations(16) == 3 * 16 + 30
    assert TDS(steps=3).cost(reward).total == 3 + 2 * 3


@pytest.mark.long
def test_chunks_change_nothing():
    mlp = eqx.nn.MLP(4, 2, 16, 2, key=jr.key(3))
    net = lambda x, s, t, cond: mlp(jnp.concatenate([x, s[None], t[None]]))  # noqa: E731
    flow_map = AverageVelocityMap(net=net, path=LinearPath())
    tilt = Tilt(flow_map, Linear(jnp.array([1.0, -0.5])), jnp.ones(()), (2,))
    whole, parts = (
        steer(
            SMC(steps=3),
            dataclasses.replace(tilt, chunk=chunk),
            n=12,
            islands=2,
            key=jr.key(0),
        )
        for chunk in (None, 5)
    )
    np.testing.assert_allclose(parts.x, whole.x, atol=1e-6)
    np.testing.assert_allclose(parts.weights, whole.weights, atol=1e-6)
    assert parts.log_z == pytest.approx(whole.log_z, abs=1e-6)


def test_the_error_of_log_z_is_that_of_the_mean_over_islands(cases, x64):
    """Where islands agree, the jackknife is the standard error over the mean."""
    z = 5 + 0.05 * np.random.default_rng(0).standard_normal(40)
    expected = z.std(ddof=1) / np.sqrt(40) / z.mean()
    assert jackknife(np.log(z)) == pytest.approx(expected, rel=1e-3)
    assert jackknife(np.log(z) - 2000) == pytest.approx(expected, rel=1e-3)
    few = steer(FK(steps=1), cases["G1"].tilt(), n=4, islands=7, key=jr.key(0))
    assert np.isnan(few.log_z_error)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: SMC(kernel="en"), "did you mean 'em'"),
        (lambda: SMC(g="2"), "schedule g"),
        (lambda: SMC(look="posterior", draws=0), "at least 1"),
        (lambda: FK(potential="maxx"), "did you mean 'max'"),
        (lambda: TDS(kernel="renoise"), "kernel of tds"),
        (lambda: SMC(kernel="em", churn=-1.0), "churn"),
    ],
)
def test_a_wrong_setting_is_one_line(make, message):
    with pytest.raises(UserError, match=message):
        make()
