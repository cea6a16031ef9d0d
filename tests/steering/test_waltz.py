"""Chains that noise and denoise, and why the denoising has to be a draw of the posterior."""

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.steering.fixtures import fixtures
from core.steering.glass import posterior_draw
from core.steering.steering import steer
from plugins.steering import Waltz

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cases():
    with jax.enable_x64(True):
        return fixtures()


def test_the_draw_has_the_posteriors_distribution(cases, x64):
    problem, tilt = cases["M1"].problem, cases["M1"].tilt()
    x, t, n = jnp.array([-0.2]), jnp.asarray(0.6), 6000
    draw = jax.jit(jax.vmap(lambda k: posterior_draw(tilt.flow_map, x, t, k, None, 32)))
    drawn = np.asarray(draw(jr.split(jr.key(0), n)))[:, 0]
    log_w, mean, std = (np.asarray(part)[0] for part in problem.posterior(tilt.flow_map.path, x, t))
    exact = log_w @ mean
    second = log_w @ (mean**2 + std**2)
    assert exact == pytest.approx(0.0762, abs=5e-5)  # published
    assert abs(drawn.mean() - exact) < 4 * drawn.std() / np.sqrt(n)
    assert abs((drawn**2).mean() - second) < 4 * (drawn**2).std() / np.sqrt(n)


@pytest.mark.parametrize("time", [0.4, 0.7])
def test_chains_reach_the_tilted_distribution(time, cases, x64):
    method = Waltz(moves=20, time=time, inner=12)
    x = steer(method, cases["G1q"].tilt(), n=2000, islands=1, key=jr.key(0)).x[:, 0]
    assert abs(x.mean() - 1) < 4 * np.sqrt(0.375 / len(x))
    assert abs(x.var() - 0.375) < 4 * 0.375 * np.sqrt(2 / len(x))


@pytest.mark.long
def test_the_flow_map_in_place_of_the_draw_is_biased(cases, x64):
    """It keeps the prior, but a step there and a step back are not as likely."""
    fixture, method = cases["M1"], Waltz(moves=12, time=0.75, inner=12)
    tilt = fixture.tilt()

    t = jnp.asarray(method.time)
    states = jnp.linspace(-5.0, 5.0, 801)
    ends = jax.vmap(lambda x: tilt.flow_map(x, t, jnp.zeros(())))(states[:, None])[:, 0]

    @dataclass(frozen=True)
    class Deterministic(Waltz):
        def proposal(self, tilt, key, x):
            noised = (1 - t) * x + t * jr.normal(key, x.shape)
            return jnp.interp(noised, states, ends)  # the map, from a table

    def score(method):
        x = steer(method, tilt, n=1000, islands=14, key=jr.key(0)).x[:, 0]
        return (x.mean() - fixture.mean[0]) / np.sqrt(fixture.covariance[0, 0] / len(x))

    assert abs(score(method)) < 4
    assert score(Deterministic(**asdict(method))) > 4
