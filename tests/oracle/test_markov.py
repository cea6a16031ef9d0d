"""The Markov chain of symbols against all of its strings, and its map against the identities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.conformance.tokens import chain
from core.flow.path import LinearPath
from core.oracle import MarkovMap
from tests.compiling import once

PATH, LENGTH, SYMBOLS = LinearPath(), 3, 4
CODES = np.array(list(itertools.product(range(SYMBOLS), repeat=LENGTH)))
STRINGS = np.eye(SYMBOLS)[CODES]


def shares(text):
    """The probability of each string."""
    first, moves = np.asarray(text.initial), np.asarray(text.transition)
    return first[CODES[:, 0]] * moves[CODES[:, :-1], CODES[:, 1:]].prod(1)


@pytest.mark.long
def test_denoiser_density_and_likelihood_are_those_of_all_strings(normal, x64):
    t = np.array([0.9, 0.4, 0.15])
    x = (1 - t)[:, None, None] * STRINGS[[5, 30, 60]] + t[:, None, None] * normal(3, LENGTH, 4)
    text = chain()
    mean, log_p, log_e = once(
        lambda text: (
            jax.vmap(lambda x, t: text.x_0_mean(PATH, x, t))(x, t),
            jax.vmap(lambda x, t: text.log_prob(PATH, x, t))(x, t),
            jax.vmap(text.log_likelihood)(CODES),
        )
    )(text)
    p = shares(text)
    distance = ((x[:, None] - (1 - t)[:, None, None, None] * STRINGS) ** 2).sum((2, 3))
    joint = p * np.exp(-distance / (2 * t[:, None] ** 2)) / (2 * np.pi * t[:, None] ** 2) ** 6
    expected = np.einsum("bn,nlk->blk", joint, STRINGS) / joint.sum(1)[:, None, None]
    np.testing.assert_allclose(mean, expected, atol=2e-15)
    np.testing.assert_allclose(log_p, np.log(joint.sum(1)), rtol=1e-12)
    np.testing.assert_allclose(log_e, np.log(p), rtol=1e-12)
    assert text.entropy() == pytest.approx(-(p * np.log(p)).sum(), rel=1e-12)


def test_the_entropy_rate_is_what_one_more_symbol_adds_to_a_stationary_string(x64):
    text = chain()
    moves, start = np.asarray(text.transition), text.stationary()
    np.testing.assert_allclose(start @ moves, start, atol=1e-14)
    long, longer = (type(text)(jnp.asarray(start), text.transition, n).entropy() for n in (6, 7))
    assert text.entropy_rate() == pytest.approx(longer - long, rel=1e-12)


@pytest.mark.long
def test_samples_and_posterior_samples_follow_their_probabilities(normal):
    text, n, t = chain(), 4000, jnp.asarray(0.5)
    x = 0.5 * STRINGS[7] + 0.5 * normal(LENGTH, SYMBOLS)

    def run(text, x):
        keys = jax.random.split(jax.random.key(0), n)
        later = jax.vmap(lambda k: text.sample_posterior(PATH, k, x, t))(keys)
        return jax.vmap(text.sample)(keys), later, text.x_0_mean(PATH, x, t)

    drawn, later, mean = once(run)(text, x.astype(np.float32))
    numbers = drawn.argmax(-1) @ np.array([16, 4, 1])
    p = shares(text)
    error = 5 * np.sqrt(p / n) + 1e-3
    assert (np.abs(np.bincount(numbers, minlength=64) / n - p) < error).all()
    np.testing.assert_allclose(later.mean(0), mean, atol=5 / np.sqrt(4 * n))


@pytest.mark.long
def test_the_four_identities_of_the_exact_map(normal, x64):
    """On the simplex; compositional, Lagrangian, Eulerian; the diagonal is the denoiser."""
    exact = MarkovMap(problem=chain())
    s, u, t, one = (jnp.asarray(v) for v in (0.9, 0.5, 0.2, 1.0))

    def run(x):
        psi, here = exact.endpoint(x, s, t), exact.endpoint(x, s, s)
        a = t * (s - u) / (u * (s - t))
        two = a * exact.endpoint(x, s, u) + (1 - a) * exact.endpoint(exact(x, s, u), u, t)
        rate = jax.jvp(lambda t: exact.endpoint(x, s, t), (t,), (one,))[1]
        end = exact.endpoint(exact(x, s, t), t, t) + t * (s - t) / s * rate
        along = ((x - here) / s, one)
        total = jax.jvp(lambda x, s: exact.endpoint(x, s, t), (x, s), along)[1]
        left = total + t / (s * (s - t)) * (psi - here)
        return psi, two, end, left, here, exact.problem.x_0_mean(PATH, x, s)

    x = (1 - 0.9) * STRINGS[[3, 20, 41]] + 0.9 * normal(3, LENGTH, SYMBOLS)
    psi, two, end, left, here, mean = once(jax.vmap(run))(x)
    np.testing.assert_allclose(psi.sum(-1), 1, atol=1e-12)
    assert np.abs(psi - here).max() > 0.1
    np.testing.assert_allclose(two, psi, atol=1e-9)
    np.testing.assert_allclose(end, psi, atol=1e-9)
    np.testing.assert_allclose(left, 0, atol=1e-9)
    np.testing.assert_allclose(here, mean, atol=1e-12)


@pytest.mark.long
def test_one_exact_jump_from_noise_ends_at_strings_with_their_probabilities(normal, x64):
    text, n = chain(), 1000
    exact = MarkovMap(problem=text)
    jump = jax.vmap(lambda x: exact.endpoint(x, jnp.asarray(1.0), jnp.asarray(0.0)))
    psi = once(jump)(normal(n, LENGTH, SYMBOLS))
    assert np.mean(psi.max(-1) > 0.99) > 0.98
    p = shares(text)
    found = np.bincount(psi.argmax(-1) @ np.array([16, 4, 1]), minlength=64) / n
    assert (np.abs(found - p) < 5 * np.sqrt(p / n) + 2e-3).all()
