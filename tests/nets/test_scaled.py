"""Networks with scaled in- and outputs: sizes as the data have them."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.network import as_network
from core.flow.path import PATHS
from core.nets.scaled import ScaledNetwork
from core.objectives.guidance import GuidanceConfig
from plugins.lagrangian.tvm import TVM
from tests.compiling import once
from tests.nets.randomised import given


def identity(x, s, t, cond):
    return x


@pytest.mark.parametrize("name", ["linear", pytest.param("vp", marks=pytest.mark.long)])
def test_states_and_velocities_have_deviation_one_inside(name, normal):
    """`c_out c_in x` has the deviation of the pair's velocity, for data of that deviation."""
    path, d = PATHS[name](), 0.3
    x_0, z = d * normal(20_000), path.noise_std * normal(20_000)

    def run(x_0, z, s):
        time = path.time_of_unit(s)
        x = path.interpolate(x_0, z, time)
        return ScaledNetwork(identity, path, d)(x, s, s), path.conditional_velocity(x_0, z, time)

    found = once(jax.vmap(run, (None, None, 0)))(x_0, z, np.float32([0.2, 0.7]))
    inside, velocity = (np.asarray(part).std(-1) for part in found)
    np.testing.assert_allclose(inside, velocity, rtol=0.03)


def test_tvm_multiplies_the_output_by_the_scale(normal):
    """By the one that is trained for, or the condition's where it is an input."""
    path, x, (s, t) = PATHS["linear"](), normal(3), np.float32([0.8, 0.3])
    fixed = TVM(guidance=GuidanceConfig(scale=2.0), scaled=True).flow_map(
        as_network(identity), path
    )
    drawn = TVM(guidance=GuidanceConfig(most=8.0), scaled=True).flow_map(as_network(identity), path)
    cond = given(1, [5.0, 0.0, 1.0])
    run = once(lambda x, s, t: [m.average_velocity(x, s, t, cond) for m in (fixed, drawn)])
    np.testing.assert_allclose(run(x, s, t), [2 * x, 5 * x], rtol=1e-6)
    with pytest.raises(UserError, match="set --plugin.guidance.scale"):
        TVM(scaled=True)
