"""MeanFlow's relatives: what they become in their limits."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.objectives.row import make_row
from plugins.meanflow.alphaflow import AlphaJump
from plugins.meanflow.mf import MeanFlowJump
from tests.compiling import once
from tests.objectives.terms import TinyNet


def test_alphaflow_is_flow_matching_at_one_and_tends_to_meanflow_at_first_order(x64):
    @once
    def run(net, x_0, z):
        row = make_row(LinearPath(), x_0, z, jnp.asarray(0.9), jnp.asarray(0.2), None, jr.key(1))
        model = AverageVelocityMap(net, LinearPath())
        terms = [AlphaJump(step=a) for a in (1.0, 0.02, 0.01)]
        residuals = [term(model, model, row) for term in (MeanFlowJump(), *terms)]
        return residuals, model.average_velocity(row.x_s, row.s, row.t) - row.v

    given = TinyNet((2,), key=jr.key(0)), np.array([0.3, -1.0]), np.array([0.8, 0.1])
    (limit, whole, *near), velocity = run(*given)
    np.testing.assert_allclose(whole, velocity, rtol=1e-7)
    errors = [np.linalg.norm(residual - limit) for residual in near]
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.05)
    assert errors[1] < 0.05 * np.linalg.norm(limit)


def test_alpha_falls_from_one_to_the_least():
    alphas = once(jax.vmap(AlphaJump(least=0.01).alpha))(np.float32([0.0, 0.5, 1.0]))
    np.testing.assert_allclose(alphas, [1.0, 0.5, 0.01], atol=1e-4)
