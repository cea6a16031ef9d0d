"""The folder of an exported sampler: what is read from it is what was written."""

import jax.numpy as jnp
import numpy as np
import pytest

from core.export import SamplerFunction, make_program, read, write
from core.flow.flow_map import AverageVelocityMap
from core.flow.network import Network
from core.flow.path import LinearPath
from core.sampling import SAMPLERS


class Gained(Network):
    """`gain x`: a network whose weight is one number."""

    gain: jnp.ndarray

    def __call__(self, x, s, t, cond=None):
        return self.gain * x


@pytest.mark.long
def test_a_weight_that_is_one_number_stays_one(tmp_path):
    """`x - V` with `V = x / 4`: three quarters of the noise."""
    flow_map = AverageVelocityMap(net=Gained(jnp.asarray(0.25)), path=LinearPath())
    function = SamplerFunction(flow_map, SAMPLERS["pushforward"], np.array([1.0, 0.0]), (2,))
    program, weights = make_program(function, ("cpu",))
    write(tmp_path, program, weights, function, {})
    again, stored = read(tmp_path)
    assert {name: w.shape for name, w in stored.items()} == {"net.gain": ()}
    noise = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.allclose(again.call(stored, noise=noise), 0.75 * noise)
