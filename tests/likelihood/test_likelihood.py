"""Log-likelihoods of exact maps are those of the problems; estimates are right in the mean."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.flow_map import FlowMap
from core.flow.path import LinearPath, Path
from core.flow.solve import AdaptiveSteps
from core.likelihood import (
    Hutchinson,
    SeriesLogDet,
    bits_per_dimension,
    dequantised,
    expectation,
    log_prob,
    ode_log_prob,
    round_trip,
    sample_log_prob,
    weighted,
)
from core.oracle import GaussianProblem, OracleMap, mixture_1d

PATH = LinearPath()
MEAN = np.array([0.4, -0.3, 0.1])
MIXTURE = np.array([0.3, 0.7]), np.array([-1.2, 0.8]), np.array([0.35, 0.6])
FACTOR = np.array([[0.9, 0.0, 0.0], [0.4, 0.5, 0.0], [-0.3, 0.2, 0.7]])


def gaussian():
    return GaussianProblem(jnp.asarray(MEAN), jnp.asarray(FACTOR @ FACTOR.T))


def gaussian_log_density(x):
    """That of N(MEAN, FACTOR FACTOR^T), in NumPy."""
    white = np.linalg.solve(FACTOR, x - MEAN)
    return -0.5 * white @ white - np.log(np.diag(FACTOR)).sum() - 1.5 * np.log(2 * np.pi)


class Fixed(FlowMap):
    """A map from noise to data in one jump of its own, `x + (t - s) V(x)`, for any times."""

    path: Path
    function: object = eqx.field(static=True)

    def average_velocity(self, x, s, t, cond=None):
        return self.function(x)


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_jumps_of_the_exact_map_have_the_density_of_the_data(steps, x64):
    times, x = jnp.linspace(0, 1, steps + 1), jnp.array([0.7, -0.2, 0.5])
    exact = OracleMap(gaussian(), PATH)

    @jax.jit
    def both(x):
        there = log_prob(exact, x, times, key=jr.key(0))
        return there, sample_log_prob(exact, there.x, times[::-1], key=jr.key(0))

    there, back = both(x)
    wanted = gaussian_log_density(np.asarray(x))
    assert abs(float(there.log_prob) - wanted) < 1e-10
    assert abs(float(back.log_prob) - wanted) < 1e-10
    assert np.abs(np.asarray(back.x - x)).max() < 1e-12 and there.folds == 0


@pytest.mark.parametrize("steps", [1, 4, 8])
def test_jumps_of_a_mixture_have_its_density(steps, x64):
    problem = mixture_1d(*(jnp.asarray(part) for part in MIXTURE))
    exact, times = OracleMap(problem, PATH), jnp.linspace(0, 1, steps + 1)
    x = jnp.linspace(-2.0, 2.0, 7)[:, None]
    found = jax.jit(jax.vmap(lambda y: log_prob(exact, y, times, key=jr.key(0)).log_prob))(x)
    weights, means, stds = MIXTURE
    parts = weights / stds * np.exp(-0.5 * ((np.asarray(x) - means) / stds) ** 2)
    parts /= np.sqrt(2 * np.pi)
    assert np.abs(np.asarray(found) - np.log(parts.sum(axis=1))).max() < 1e-8


def test_the_ode_has_the_density_of_the_data(x64):
    stepping = AdaptiveSteps("dopri8", rtol=1e-11, atol=1e-11)
    x, field = jnp.array([0.7, -0.2, 0.5]), OracleMap(gaussian(), PATH)
    found, z = jax.jit(lambda x: ode_log_prob(field, x, key=jr.key(0), stepping=stepping))(x)
    assert abs(float(found) - gaussian_log_density(np.asarray(x))) < 1e-8
    assert np.abs(np.asarray(field(x, jnp.zeros(()), jnp.ones(())) - z)).max() < 1e-8


MATRIX = np.array([[0.3, -0.8, 0.1], [0.5, 0.2, 0.4], [-0.2, 0.6, -0.4]])


def test_hutchinson_is_right_in_the_mean_with_the_variance_that_it_says(x64):
    """Over all eight probes the mean is exact: no statistics needed."""
    probes = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T

    def field(x):
        return jnp.asarray(MATRIX) @ x

    found = [Hutchinson()(field, jnp.ones(3), jnp.asarray(probe))[1] for probe in probes]
    symmetric = (MATRIX + MATRIX.T) / 2
    variance = 2 * ((symmetric**2).sum() - (np.diag(symmetric) ** 2).sum())
    assert np.isclose(np.mean(found), np.trace(MATRIX), atol=1e-12)
    assert np.isclose(np.var(found), variance, atol=1e-12)
    assert np.abs(np.asarray(Hutchinson().probe(jnp.ones(3), jr.key(1)))).tolist() == [1, 1, 1]


def test_the_series_nears_the_determinant(x64):
    """The mean over many probes; the rest of the series after 16 terms is below .5^16."""
    small = Fixed(PATH, lambda x: 0.4 * jnp.asarray(MATRIX) @ x)
    ends = jnp.ones(()), jnp.zeros(())
    make = jax.jit(lambda key: SeriesLogDet(16, 256)(small, jnp.ones(3), *ends, None, key=key))
    wanted = np.log(np.linalg.det(np.eye(3) - 0.4 * MATRIX))
    found = [float(make(jr.key(seed)).log_det) for seed in range(20)]
    assert abs(np.mean(found) - wanted) < 4 * np.std(found, ddof=1) / np.sqrt(20) < 0.04
    assert np.allclose(make(jr.key(0)).x, np.ones(3) - 0.4 * MATRIX @ np.ones(3))


def test_a_series_that_does_not_converge_is_no_number():
    large = Fixed(PATH, lambda x: 2.0 * jnp.asarray(MATRIX, jnp.float32) @ x)
    ends = jnp.ones(()), jnp.zeros(())
    made = jax.jit(lambda x: SeriesLogDet()(large, x, *ends, None, key=jr.key(0)))(jnp.ones(3))
    assert np.abs(np.linalg.eigvals(2 * MATRIX)).max() > 1 and np.isnan(made.log_det)


def energy(x):
    """A double well whose normaliser the specification of the mathematics gives."""
    return jnp.sum(x**4 - 4 * x**2)


def test_any_one_to_one_map_gives_the_normaliser_and_a_fold_is_counted(x64, rng):
    """`log Z` of exp(4 x^2 - x^4) by quadrature; the fold maps both halves of the line alike."""
    nodes = np.linspace(-6, 6, 20001)
    truth = np.log(np.trapezoid(np.exp(4 * nodes**2 - nodes**4), nodes))
    z = jnp.asarray(rng.standard_normal((20_000, 1)))

    @jax.jit
    def judged(z):
        """Of `1.5 z`, and of `1.5 |z| - 1.5`, which folds."""
        maps = Fixed(PATH, lambda z: -0.5 * z), Fixed(PATH, lambda z: z - 1.5 * jnp.abs(z) + 1.5)
        times, answers = jnp.array([1.0, 0.0]), []
        for flow_map in maps:
            made = jax.vmap(lambda z: sample_log_prob(flow_map, z, times, key=jr.key(0)))(z)
            found = weighted(jax.vmap(energy)(made.x), made.log_prob)
            right = expectation(jnp.where(made.x[:, 0] > 0, 1.0, 0.0), found)
            answers.append((found.log_z, found.log_z_error, jnp.mean(made.folds), right))
        return answers

    wrong, folding = jax.tree.map(float, jax.device_get(judged(z)))
    assert abs(wrong[0] - truth) < 4 * wrong[1] < 0.1 and wrong[2] == 0.0
    occupied, error = wrong[3]
    assert abs(occupied - 0.5) < 4 * error < 0.1
    assert abs(folding[0] - truth) > 10 * folding[1] and abs(folding[2] - 0.5) < 0.02


def test_even_data_take_as_many_bits_as_they_have():
    """Sixteen equally likely levels take 4 bits: the density is even over the bins."""
    density = -64 * np.log(2 + 2 / 15)
    assert np.isclose(bits_per_dimension(jnp.asarray(density), 64, 15), 4.0)
    assert np.isclose(bits_per_dimension(jnp.asarray(density), 64, None), np.log2(2 + 2 / 15))
    spread = dequantised(jnp.full(1000, 0.2), 15, key=jr.key(0))
    assert 0.2 - 1 / 15 <= spread.min() < 0.14 and 0.26 < spread.max() <= 0.2 + 1 / 15
    assert dequantised(spread, None, key=jr.key(0)) is spread


def test_the_round_trip_of_an_exact_map_ends_where_it_began(x64):
    times = jnp.array([0.0, 0.3, 1.0])
    exact, wrong = OracleMap(gaussian(), PATH), Fixed(PATH, lambda x: 0.5 * x)
    x = jnp.array([0.7, -0.2, 0.5])
    assert float(round_trip(exact, x, times)) < 1e-12
    there_and_back = (1 + 0.15) * (1 + 0.35) * (1 - 0.35) * (1 - 0.15)
    assert np.isclose(round_trip(wrong, x, times), 1 - there_and_back)
