"""Cross-entropy as a residual: its gradient, its value, its mean over positions."""

import jax
import numpy as np

from core.objectives.categorical import against, pulled, rate
from core.objectives.weights import Adaptive, Squared, Timed
from core.times.unit import Times
from core.times.weights import Even
from tests.compiling import once


def test_half_the_square_has_the_gradient_of_the_cross_entropy_of_a_signed_target(normal, x64):
    """By NumPy: the mean over positions of `-sum q log psi`, whose gradient is `(psi - q) / L`."""
    zeta, q = normal(5, 4), normal(5, 4)
    q += (1 - q.sum(-1, keepdims=True)) / 4
    assert q.min() < 0
    weight = Timed(Even(0.5), Squared("positions"))

    def run(zeta, q, s):
        def loss(zeta):
            return weight(pulled(*against(zeta, q)[:2]), Times(s, s, s))

        return loss(zeta), jax.grad(loss)(zeta), against(zeta, q)[2]["cross_entropy"]

    value, gradient, logged = once(run)(zeta, q, np.array(0.5))
    psi = np.exp(zeta) / np.exp(zeta).sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient, (psi - q) / 5, atol=1e-15)
    np.testing.assert_allclose(value, ((psi - q) ** 2).sum(-1).mean() / 2, rtol=1e-13)
    np.testing.assert_allclose(logged, -(q * np.log(psi)).sum(-1).mean(), rtol=1e-13)


def test_the_adaptive_weight_reads_the_distance_of_probabilities(normal, x64):
    zeta, q = normal(2, 3), np.full((2, 3), 1 / 3)
    weight = Adaptive(0.5, 1e-6, "positions")

    def run(zeta, q, s):
        return weight(pulled(*against(zeta, q)[:2]), Times(s, s, s))

    found = once(run)(zeta, q, np.array(0.5))
    psi = np.exp(zeta) / np.exp(zeta).sum(-1, keepdims=True)
    square = ((psi - q) ** 2).sum(-1).mean()
    np.testing.assert_allclose(found, square / np.sqrt(square + 1e-6), rtol=1e-13)


def test_the_rate_of_a_softmax_is_its_derivative(normal, x64):
    zeta, d_zeta = normal(2, 3), normal(2, 3)

    def both(zeta, d_zeta):
        psi, slope = jax.jvp(jax.nn.softmax, (zeta,), (d_zeta,))
        return rate(psi, d_zeta), slope

    found, expected = once(both)(zeta, d_zeta)
    np.testing.assert_allclose(found, expected, atol=1e-15)
