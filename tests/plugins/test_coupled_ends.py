"""Methods whose pairs may depend on each other: the exact map of such pairs is their fixed point.

Of `(x_0, z)` jointly normal in each coordinate, with the variances A and C and the covariance B,
the state `x_t = (1 - t) x_0 + t z` is normal with the variance
`q(t) = A (1 - t)^2 + 2 B t (1 - t) + C t^2`. So `E[v | x_t] = q'(t) / (2 q(t)) x_t`, and the flow
map is `F(x, s, t) = x sqrt(q(t) / q(s))`. With independent ends B is 0, and the map another one.
"""

import dataclasses
import importlib

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import E0_BOUND
from core.conformance.batches import batch_scores
from core.conformance.probes import NoNetwork
from core.flow.flow_map import FlowMap
from core.flow.path import LinearPath, Path
from core.methods.plugin import Task
from core.methods.registry import find_plugin, plugins
from core.objectives.objective import Batch
from tests.compiling import device

importlib.import_module("plugins")
COUPLED = sorted(name for name, plugin in plugins().items() if plugin.couples)
A, B, C = 1.6, 0.9, 0.7
"""Variances of the ends and their covariance; the second is not that of noise."""


class NormalEnds(FlowMap):
    """The exact map of ends with the covariance `b`."""

    path: Path
    b: float = eqx.field(static=True)

    def average_velocity(self, x, s, t, cond=None):
        del cond

        def q(u):
            return A * (1 - u) ** 2 + 2 * self.b * u * (1 - u) + C * u**2

        slope = -A * (2 - s - t) + 2 * self.b * (1 - s - t) + C * (s + t)
        return x * slope / (q(s) * (1 + jnp.sqrt(q(t) / q(s))))


def pairs(n: int) -> Batch:
    rng = np.random.default_rng(0)
    drawn = rng.multivariate_normal(np.zeros(2), [[A, B], [B, C]], (n, 2))
    return Batch(device(drawn[..., 0]), None, device(drawn[..., 1]))


def score(name: str, b: float) -> float:
    """How far the mean update is from zero, in standard errors, at the exact map of this `b`."""
    plugin = dataclasses.replace(find_plugin(name).preset("points"), power=0.0)
    path = LinearPath()
    method = plugin.method(NoNetwork(), path, None, Task((2,)), key=jr.key(0))
    exact, batch = NormalEnds(path, b), pairs(4096)
    return batch_scores(method.objective, method, exact, batch, jr.key(1))["model"]


@pytest.mark.slow
@pytest.mark.programs(60)
@pytest.mark.parametrize("name", COUPLED)
def test_the_exact_map_of_dependent_ends_is_a_fixed_point(name, x64):
    assert score(name, B) <= E0_BOUND < score(name, 0.0)


def test_which_methods_take_dependent_ends():
    assert {"fm", "mf", "imf", "lsd", "psd"} <= set(COUPLED)
    for name, plugin in plugins().items():
        if plugin.couples:
            assert not plugin.needs_teacher and plugin.most_nfe is None, name
