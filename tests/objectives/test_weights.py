"""Loss weights: values on known residuals, the reduction, and where gradients stop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.objectives import weights
from core.times import weights as time_weights
from core.times.distributions import Uniform
from core.times.unit import Times

R = jnp.array([[3.0, 0.0], [0.0, 4.0]])
TIMES = Times(jnp.asarray(0.5), jnp.asarray(0.4), jnp.asarray(0.1))


def test_values_name_their_reduction():
    assert weights.Squared()(R, TIMES) == 25
    assert weights.Squared("mean")(R, TIMES) == 6.25
    assert float(weights.Adaptive(1.0, 0.01)(R, TIMES)) == pytest.approx(25 / 25.01)
    assert float(weights.Adaptive(0.5, 1.0, "mean")(R, TIMES)) == pytest.approx(6.25 / 7.25**0.5)
    assert float(weights.PseudoHuber(12.0)(R, TIMES)) == pytest.approx(13 - 12)
    assert float(weights.Cauchy(6.25)(R, TIMES)) == pytest.approx(jnp.log(2.0))


def test_power_zero_is_the_plain_square():
    assert weights.Adaptive(0.0)(R, TIMES) == weights.Squared()(R, TIMES)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_no_gradient_flows_through_the_adaptive_weight(power):
    weight = weights.Adaptive(power, 0.01)
    gradient = jax.grad(lambda r: weight(r, TIMES))(R)
    assert jnp.allclose(gradient, 2 * R / 25.01**power, rtol=1e-6)


def test_the_weight_is_one_per_row_not_one_per_batch():
    rows = jnp.stack([R, 100 * R])
    losses = jax.vmap(lambda r: weights.Adaptive()(r, TIMES))(rows)
    assert jnp.allclose(losses, 1.0, rtol=1e-3)


def test_half_precision_residuals_are_squared_in_float32():
    assert weights.square(R.astype(jnp.bfloat16)).dtype == jnp.float32


def test_a_normalised_tangent_has_a_bounded_gradient_and_the_right_direction():
    weight = weights.TangentNorm(0.1)
    for scale in (1e-3, 1.0, 1e3):
        R = scale * jnp.array([3.0, -4.0])
        gradient = jax.grad(lambda R: weight(R, TIMES) / 2)(R)
        assert jnp.allclose(gradient, R / (5 * scale + 0.1), rtol=1e-5)


def test_the_norm_is_finite_and_still_at_zero():
    value, gradient = jax.value_and_grad(weights.Norm())(jnp.zeros(3), TIMES)
    assert value == 0 and jnp.all(gradient == 0)
    value, gradient = jax.value_and_grad(weights.Norm())(R, TIMES)
    assert value == 5 and jnp.allclose(gradient, R / 5)


SIGMA_S, SIGMA_U = 1.0, 0.4 / 0.6
FACTORS = {
    "even": (time_weights.Even(), 1.0),
    "gap": (time_weights.PerGap(2.0), 100.0),
    "noise-gap": (time_weights.PerNoiseGap(), 1 / (SIGMA_S - SIGMA_U)),
    "edm": (time_weights.EdmWeight(0.5), (SIGMA_S**2 + 0.25) / (SIGMA_S * 0.5) ** 2),
    "sine": (time_weights.SineWeight(), 0.5**0.5),
    "gamma": (time_weights.GammaWeight(2.0, 6.0), 0.25 * np.exp(-3.0)),
    "imm": (time_weights.ImmWeight(1.0, 0.0), 0.5 * 8.0 * (0.5 / 0.5) / 2),
    "importance": (time_weights.Importance(Uniform(0.0, 0.5)), 0.5),
}


@pytest.mark.parametrize("name", FACTORS)
def test_weights_in_time_have_their_values(name):
    factor, expected = FACTORS[name]
    assert float(factor(TIMES)) == pytest.approx(expected, rel=1e-5)
    assert float(weights.Timed(factor)(R, TIMES)) == pytest.approx(25 * expected, rel=1e-5)


def test_weights_in_time_multiply_and_are_finite_at_the_ends():
    parts = tuple(factor for factor, _ in FACTORS.values())
    expected = np.prod([value for _, value in FACTORS.values()])
    assert float(time_weights.Product(parts)(TIMES)) == pytest.approx(expected, rel=1e-5)
    for time in (0.0, 1.0):
        assert jnp.isfinite(time_weights.Product(parts)(Times(*[jnp.asarray(time)] * 3)))
