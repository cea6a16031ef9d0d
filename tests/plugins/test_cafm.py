"""Continuous adversarial flow: the derivative that the discriminator is seen by, and its game."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.path import TrigPath
from core.nets.discriminator import discriminator
from core.objectives.row import make_row
from plugins.flow_matching.cafm import along
from tests.compiling import once


@pytest.mark.long
def test_the_discriminator_is_seen_by_its_change_along_a_curve(normal, x64):
    """Against a central difference along `x + h v` at `t + h`, on a path with its own clock."""
    path, step = TrigPath(), 1e-6
    net = discriminator((3,), 0, 16, key=jr.key(0))

    def run(x_0, z, v, t):
        def one(x_0, z, v, t):
            row = make_row(path, x_0, z, t, t, None, jr.key(0))

            def moved(h):
                x, u = row.x_s + h * v, path.unit_time(t + h)
                return net(jnp.append(x, u))

            level, slope = along(net, path, row, v)
            return level - moved(0.0), slope, (moved(step) - moved(-step)) / (2 * step)

        return jax.vmap(one)(x_0, z, v, t)

    t = np.linspace(0.2, 1.3, 6)
    apart, slope, quotient = once(run)(normal(6, 2), normal(6, 2), normal(6, 2), t)
    np.testing.assert_allclose(apart, 0, atol=1e-6)
    np.testing.assert_allclose(slope, quotient, rtol=1e-5)
