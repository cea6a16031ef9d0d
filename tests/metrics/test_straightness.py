"""Straightness against fields whose trajectories are known."""

import jax.numpy as jnp
import numpy as np

from core.flow.field import VelocityField
from core.flow.path import LinearPath, Path
from core.metrics import straightness


class Spun(VelocityField):
    """`v = a + w J x` in the plane: a translation for `w = 0`, a rotation for `a = 0`."""

    path: Path
    a: float
    w: float

    def velocity(self, x, t, cond=None):
        del t, cond
        return self.a + self.w * jnp.stack([-x[1], x[0]])


def test_a_translation_is_straight_and_half_a_turn_is_not(normal):
    """A rotation by the angle w: |v| = w r, and the chord is 2 r sin(w / 2)."""
    x = normal(5, 2)
    found = straightness(Spun(LinearPath(), 3.0, 0.0), x)
    assert found.bend < 1e-10
    np.testing.assert_allclose(found.cost, 18.0, rtol=1e-5)
    turned = straightness(Spun(LinearPath(), 0.0, np.pi), x, steps=2000)
    chord = 4 * (x**2).sum(1).mean()
    np.testing.assert_allclose(turned.cost, chord, rtol=5e-3)
    np.testing.assert_allclose(turned.bend, np.pi**2 / 4 - 1, rtol=5e-3)
