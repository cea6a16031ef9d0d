"""Samplers that add noise keep the distribution: two-sample tests against exact samples of a
mixture."""

import jax
import numpy as np
import pytest
from jaxtyping import Array
from scipy.stats import ks_2samp

from core.conformance import problems
from core.flow.flow_map import FlowMap
from core.flow.path import Path, TrigPath
from core.oracle import OracleMap
from core.sampling import SAMPLERS, at_units, uniform_grid
from core.sampling.grids import edm_grid
from core.sampling.jumps import Gamma
from core.sampling.sde import HeunChurn
from tests.sampling.distributions import ends
from tests.sets import some

N = 10_000
PATH = TrigPath(noise_std=0.5)
EXACT = OracleMap(problems()["mixture"], PATH)
CHOSEN = at_units(PATH, (1, 0.6, 0.3, 0))
CASES = {
    "restart": (SAMPLERS["restart"], CHOSEN),
    "gamma": (Gamma(0.7), CHOSEN),
    "ancestral": (SAMPLERS["ancestral"], uniform_grid(PATH, 200)),
    "churn": (HeunChurn(churn=10.0), edm_grid(PATH, 60)),
    "euler-maruyama": (SAMPLERS["euler-maruyama"], uniform_grid(PATH, 100)),
}


def mixture_samples(rng):
    """Of the mixture, drawn by NumPy."""
    weights, means, stds = (np.asarray(part)[0] for part in jax.tree.leaves(EXACT.problem))
    k = rng.choice(2, N, p=weights.astype(np.float64) / weights.sum())
    return means[k] + stds[k] * rng.normal(size=N)


class OtherNoise(FlowMap):
    """An exact map that names a path of more noise than its own, which samplers then add."""

    exact: FlowMap
    path: Path

    def average_velocity(self, x: Array, s: Array, t: Array, cond=None) -> Array:
        return self.exact.average_velocity(x, s, t, cond)

    def velocity(self, x: Array, t: Array, cond=None) -> Array:
        return self.exact.velocity(x, t, cond)


def p_value(name, flow_map):
    """Of the sampler's ends and exact samples being of one distribution (Kolmogorov and
    Smirnov)."""
    rng = np.random.default_rng(7)
    z = rng.normal(size=(N, 1)).astype(np.float32)  # PATH ends where sigma is 1
    found = ends(CASES[name][0], flow_map, 0.5 * z, CASES[name][1])
    return ks_2samp(found[:, 0], mixture_samples(rng)).pvalue


@pytest.mark.parametrize("name", some(CASES, "restart", "gamma"))
def test_samples_are_of_the_exact_distribution(name):
    assert p_value(name, EXACT) > 0.01


@pytest.mark.parametrize("name", some(["restart", "euler-maruyama"], "restart"))
def test_with_too_much_noise_on_the_way_they_are_not(name):
    assert p_value(name, OtherNoise(EXACT, TrigPath(noise_std=0.75))) < 1e-4
