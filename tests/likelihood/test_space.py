"""Densities on manifolds against flows whose stretch has a closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.field import VelocityField
from core.flow.interpolant import GeodesicPath, Interpolant
from core.flow.solve import AdaptiveSteps
from core.likelihood import negative_log_likelihood, space_log_prob
from core.spaces import SPACES
from tests.compiling import once

STEPPING = AdaptiveSteps("dopri8", 1e-11, 1e-11)


class Toward(VelocityField):
    """The flow towards a pole: `dh / dt = k (1 - h^2)` for the height `h`; on a torus each angle
    moves by `k sin`."""

    path: Interpolant
    strength: float = 0.9

    def velocity(self, x, t, cond=None):
        if self.path.space.name == "torus":
            return self.strength * jnp.sin(x)
        pole = jnp.zeros_like(x).at[0].set(self.strength)
        return self.path.space.tangent(x, pole)


def _expected(name: str, x: np.ndarray, k: float) -> np.ndarray:
    if name == "torus":
        moved = 2 * np.arctan(np.tan(x / 2) * np.exp(k))
        return np.sum(np.log(np.sin(moved) / np.sin(x)) - math.log(2 * math.pi), axis=1)
    volume = {"sphere": 4 * math.pi, "so3": math.pi**2}[name]
    stretch = -(x.shape[1] - 1) * np.log(np.cosh(k) + x[:, 0] * np.sinh(k))
    return stretch - math.log(volume)


@pytest.mark.long
@pytest.mark.parametrize("name, dim", [("sphere", 3), ("torus", 2), ("so3", 4)])
def test_density_is_that_of_the_closed_form(name, dim, x64, rng):
    x = rng.normal(size=(5, dim))
    x = x if name == "torus" else x / np.linalg.norm(x, axis=1, keepdims=True)
    field = Toward(GeodesicPath(SPACES[name]))
    found = once(jax.vmap(lambda y: space_log_prob(field, y, stepping=STEPPING)))(x)
    assert np.allclose(found, _expected(name, x, field.strength), atol=1e-8)


@pytest.mark.long
def test_mean_and_error_are_those_of_all_points(rng):
    x = rng.normal(size=(700, 3)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    field = Toward(GeodesicPath(SPACES["sphere"]))
    expected = -_expected("sphere", x, field.strength)
    mean, error = negative_log_likelihood(field, x)
    assert mean == pytest.approx(expected.mean(), abs=1e-4)
    assert error == pytest.approx(expected.std() / np.sqrt(700), rel=1e-3)
