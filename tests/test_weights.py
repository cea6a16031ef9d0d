"""Loss weights: values on known residuals, the reduction, and where gradients stop."""

import jax
import jax.numpy as jnp
import pytest

from core import weights

R = jnp.array([[3.0, 0.0], [0.0, 4.0]])
S, T = jnp.asarray(0.5), jnp.asarray(0.1)


def test_values_name_their_reduction():
    assert weights.Squared()(R, S, T) == 25
    assert weights.Squared("mean")(R, S, T) == 6.25
    assert float(weights.Adaptive(1.0, 0.01)(R, S, T)) == pytest.approx(25 / 25.01)
    assert float(weights.Adaptive(0.5, 1.0, "mean")(R, S, T)) == pytest.approx(6.25 / 7.25**0.5)
    assert float(weights.PseudoHuber(12.0)(R, S, T)) == pytest.approx(13 - 12)
    assert float(weights.Cauchy(6.25)(R, S, T)) == pytest.approx(jnp.log(2.0))


def test_power_zero_is_the_plain_square():
    assert weights.Adaptive(0.0)(R, S, T) == weights.Squared()(R, S, T)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_no_gradient_flows_through_the_adaptive_weight(power):
    weight = weights.Adaptive(power, 0.01)
    gradient = jax.grad(lambda r: weight(r, S, T))(R)
    assert jnp.allclose(gradient, 2 * R / 25.01**power, rtol=1e-6)


def test_the_weight_is_one_per_row_not_one_per_batch():
    rows = jnp.stack([R, 100 * R])
    losses = jax.vmap(lambda r: weights.Adaptive()(r, S, T))(rows)
    assert jnp.allclose(losses, 1.0, rtol=1e-3)


def test_half_precision_residuals_are_squared_in_float32():
    assert weights.square(R.astype(jnp.bfloat16)).dtype == jnp.float32


def test_a_normalised_tangent_has_a_bounded_gradient_and_the_right_direction():
    weight = weights.TangentNorm(0.1)
    s, t = jnp.asarray(0.8), jnp.asarray(0.3)
    for scale in (1e-3, 1.0, 1e3):
        R = scale * jnp.array([3.0, -4.0])
        gradient = jax.grad(lambda R: weight(R, s, t) / 2)(R)
        assert jnp.allclose(gradient, R / (5 * scale + 0.1), rtol=1e-5)


def test_a_weight_per_gap_divides_by_it():
    R, s = jnp.array([1.0, 2.0]), jnp.asarray(0.75)
    assert jnp.allclose(weights.PerGap()(R, s, jnp.asarray(0.5)), 20.0)
    assert jnp.isfinite(weights.PerGap()(R, s, s))
