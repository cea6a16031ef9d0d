"""The bound on the likelihood of tokens: the entropy at the exact denoiser, more at any other."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

from core.conformance.tokens import chain
from core.flow.categorical import CategoricalMap, TokenMap
from core.flow.path import LinearPath
from core.metrics.categorical import likelihood_bound

PATH = LinearPath()


class Denoiser(TokenMap):
    """The denoiser of a chain, with its logits times a factor; 1 is exact."""

    text: object
    factor: float
    path: LinearPath

    def logits(self, x: Float[Array, "l k"], s: Array, t: Array, cond: object = None) -> Array:
        return self.factor * self.text.logits(self.path, x, t)


@pytest.mark.long
def test_two_symbols_have_the_entropy_of_their_odds():
    """-.3 log .3 - .7 log .7 = .6108643 nats, in closed form; and a hundredfold-wrong prior costs
    its divergence more."""
    odds = np.array([0.3, 0.7])
    codes = np.repeat([[0], [1]], [3000, 7000], axis=0)

    def bound(odds):
        net = lambda x, s, t, cond: (1 - s) / s**2 * x + jnp.log(odds)[None, :]  # noqa: E731
        field = CategoricalMap(net=net, path=PATH)
        return likelihood_bound(field, codes, 2, rounds=6, batch=10_000, key=jr.key(0))

    exact, wrong = bound(odds), bound(np.array([0.5, 0.5]))
    assert exact.nats == pytest.approx(0.6108643, abs=4 * exact.error) and exact.error < 0.01
    assert wrong.nats == pytest.approx(np.log(2), abs=4 * wrong.error)
    assert exact.bits(1) == pytest.approx(exact.nats / np.log(2))


@pytest.mark.long
def test_a_chain_has_its_entropy_and_a_wrong_denoiser_is_above_it():
    text = chain()
    rng, n = np.random.default_rng(0), 6000
    codes = np.empty((n, 3), np.int32)
    codes[:, 0] = (np.cumsum(np.asarray(text.initial))[:-1] < rng.random((n, 1))).sum(1)
    for place in (1, 2):
        rows = np.asarray(text.transition)[codes[:, place - 1]]
        codes[:, place] = (rows.cumsum(1)[:, :-1] < rng.random((n, 1))).sum(1)
    exact, wrong = (
        likelihood_bound(Denoiser(text, f, PATH), codes, 4, batch=2000, key=jr.key(1))
        for f in (1.0, 0.3)
    )
    assert exact.nats == pytest.approx(text.entropy(), abs=4 * exact.error) and exact.error < 0.05
    assert wrong.nats > text.entropy() + 4 * wrong.error
