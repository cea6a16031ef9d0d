"""The warped time of tokens: how often the largest entry is the right one, at an even rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.times.warp import Warp, Warped
from tests.compiling import once

PROBABILITIES = {27: (0.08, 0.19, 0.34, 0.63, 0.96), 50257: (1e-4, 9e-4, 0.004, 0.033, 0.41)}
"""That of the right argmax at t = .7, .5, .4, .3, .2, as the specification has measured it."""


@pytest.mark.parametrize("symbols", PROBABILITIES)
def test_the_warped_time_is_the_probability_of_a_wrong_argmax(symbols, x64):
    w = once(lambda t: Warp(mix=0.0)(t, symbols))(np.array([0.7, 0.5, 0.4, 0.3, 0.2]))
    q = 1 - w * (symbols - 1) / symbols
    np.testing.assert_allclose(q, PROBABILITIES[symbols], rtol=0.02, atol=5e-3)


def test_it_is_that_of_simulated_tokens(rng, x64):
    t, symbols = 0.35, 8
    entries = t * rng.standard_normal((200_000, symbols))
    entries[:, 0] += 1 - t
    wrong = np.mean(np.argmax(entries, 1) != 0)
    w = float(once(lambda t: Warp(mix=0.0)(t, symbols))(np.array(t)))
    assert w * 7 / 8 == pytest.approx(wrong, abs=4 * (wrong * (1 - wrong) / 200_000) ** 0.5)


def test_times_come_back_and_keep_their_order_and_ends(x64):
    def run(w):
        warp = Warp()
        t = warp.time(w, 27)
        return t, warp(t, 27), jax.vmap(jax.grad(lambda t: warp(t, 27)))(t)

    w = np.linspace(0, 1, 101)
    t, back, rate = once(run)(w)
    np.testing.assert_allclose(back, w, atol=1e-6)
    assert t[0] == 0 and t[-1] == 1 and (np.diff(t) > 0).all() and (rate > 0).all()


def test_samples_follow_the_density():
    distribution = Warped(27)
    edges = np.array([0.1, 0.25, 0.3, 0.4, 0.6], np.float32)

    def run(edges):
        grid = jnp.linspace(0, 1, 2001)
        density = distribution.density(grid)
        below = [jnp.trapezoid(jnp.where(grid <= e, density, 0.0), grid) for e in edges]
        return jnp.stack(below), distribution.sample(jax.random.key(0), 20_000)

    below, drawn = once(run)(edges)
    found = (drawn[:, None] <= edges[None]).mean(0)
    np.testing.assert_allclose(found, below, atol=0.015)
