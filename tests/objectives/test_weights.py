"""Loss weights: values on known residuals, the reduction, and where gradients stop."""

import jax
import jax.numpy as jnp
import numpy as np

from core.objectives import weights
from core.times import weights as time_weights
from core.times.distributions import Uniform
from core.times.unit import Times
from plugins.consistency.ct import CT
from tests.compiling import once

R = np.array([[3.0, 0.0], [0.0, 4.0]], np.float32)
TIMES = np.array([0.5, 0.4, 0.1], np.float32)


def values(given, residual=R, times=TIMES):
    """The values of all weights, in one program."""
    return once(lambda r, times: [weight(r, Times(*times)) for weight in given])(residual, times)


def gradients(given, residual=R, times=TIMES):
    def run(r, times):
        return [jax.value_and_grad(lambda r: weight(r, Times(*times)))(r) for weight in given]

    return once(run)(residual, times)


def test_values_name_their_reduction():
    expected = {
        weights.Squared(): 25,
        weights.Squared("mean"): 6.25,
        weights.Adaptive(1.0, 0.01): 25 / 25.01,
        weights.Adaptive(0.5, 1.0, "mean"): 6.25 / 7.25**0.5,
        weights.PseudoHuber(12.0): 13 - 12,
        weights.PseudoHuber(None): np.hypot(5, 0.00108) - 0.00108,  # of four dimensions
        weights.Cauchy(6.25): np.log(2.0),
        weights.Adaptive(0.0): 25,  # power 0 is the plain square
    }
    found = values(list(expected))
    np.testing.assert_allclose(found, list(expected.values()), rtol=1e-6)
    assert found[-1] == found[0]


def test_no_gradient_flows_through_the_adaptive_weight():
    powers = (0.5, 1.0)
    for power, (_, gradient) in zip(powers, gradients([weights.Adaptive(p, 0.01) for p in powers])):
        np.testing.assert_allclose(gradient, 2 * R / 25.01**power, rtol=1e-6)


def test_the_weight_is_one_per_row_not_one_per_batch():
    rows = np.stack([R, 100 * R])
    losses = once(jax.vmap(lambda r: weights.Adaptive()(r, Times(*map(jnp.asarray, TIMES)))))(rows)
    np.testing.assert_allclose(losses, 1.0, rtol=1e-3)


def test_half_precision_residuals_are_squared_in_float32():
    assert once(lambda r: weights.square(r.astype(jnp.bfloat16)))(R).dtype == np.float32


def test_a_normalised_tangent_has_a_bounded_gradient_and_the_right_direction():
    weight = weights.TangentNorm(0.1)
    run = once(jax.grad(lambda r, times: weight(r, Times(*times)) / 2))
    for scale in (1e-3, 1.0, 1e3):
        r = np.float32(scale) * np.float32([3.0, -4.0])
        np.testing.assert_allclose(run(r, TIMES), r / (5 * scale + 0.1), rtol=1e-5)


def test_the_norm_is_finite_and_still_at_zero():
    ((value, gradient),) = gradients([weights.Norm()], np.zeros(3, np.float32))
    assert value == 0 and np.all(gradient == 0)
    ((value, gradient),) = gradients([weights.Norm()])
    assert value == 5
    np.testing.assert_allclose(gradient, R / 5, rtol=1e-6)


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


def test_weights_in_time_have_their_values():
    factors = [factor for factor, _ in FACTORS.values()]
    expected = [value for _, value in FACTORS.values()]

    @once
    def run(r, times):
        times = Times(*times)
        whole = time_weights.Product(tuple(factors))
        ends = [whole(Times(*[jnp.asarray(end)] * 3)) for end in (0.0, 1.0)]
        alone = [factor(times) for factor in factors]
        return alone, [weights.Timed(factor)(r, times) for factor in factors], whole(times), ends

    alone, timed, whole, ends = run(R, TIMES)
    for name, *pair in zip(FACTORS, alone, expected):
        np.testing.assert_allclose(*pair, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(timed, 25 * np.array(expected), rtol=1e-5)
    np.testing.assert_allclose(whole, np.prod(expected), rtol=1e-5)
    assert np.all(np.isfinite(ends))


def test_gaps_are_those_of_noise_to_signal_ratios_on_digits_and_in_time_on_points():
    squared = time_weights.PerNoiseGap(power=2.0)
    factors = CT.preset("small-image").factor(), CT.preset("points").factor(), squared
    found = once(lambda times: [factor(Times(*times)) for factor in factors])(TIMES)
    gap = SIGMA_S - SIGMA_U
    np.testing.assert_allclose(found, [1 / gap, 100.0, gap**-2], rtol=1e-5)
