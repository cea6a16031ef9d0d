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
from tests.objectives.terms import TinyNet


@pytest.fixture
def case(x64):
    net = jax.tree.map(lambda a: a.astype(jnp.float64), TinyNet((2,), key=jr.key(0)))
    row = make_row(
        LinearPath(), jnp.array([0.3, -1.0]), jnp.array([0.8, 0.1]), jnp.asarray(0.9),
        jnp.asarray(0.2), None, jr.key(1),
    )  # fmt: skip
    return AverageVelocityMap(net, LinearPath()), row


def test_alphaflow_is_flow_matching_at_one_and_tends_to_meanflow_at_first_order(case):
    model, row = case
    whole = AlphaJump(step=1.0)(model, model, row)
    np.testing.assert_allclose(whole, model.average_velocity(row.x_s, row.s, row.t) - row.v)
    limit = MeanFlowJump()(model, model, row)
    errors = [jnp.linalg.norm(AlphaJump(step=a)(model, model, row) - limit) for a in (0.02, 0.01)]
    assert float(errors[0] / errors[1]) == pytest.approx(2.0, rel=0.05)
    assert float(errors[1]) < 0.05 * float(jnp.linalg.norm(limit))


def test_alpha_falls_from_one_to_the_least():
    alphas = [float(AlphaJump(least=0.01).alpha(jnp.asarray(p))) for p in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(alphas, [1.0, 0.5, 0.01], atol=1e-4)
