"""Times on another scale: what the network receives, and for which methods it does."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.network import Network
from core.flow.path import LinearPath
from core.methods import plugins
from core.methods.warm_start import unlike, warm_started
from core.nets import MLPConfig
from core.nets.warped import WarpedTimes
from tests.compiling import once


class Heard(Network):
    """The source time that it receives, in the first place of the state, and the target time."""

    def __call__(self, x, s, t, cond=None):
        return x.at[0].set(s).at[1].set(t)


def test_the_ends_stay_and_the_steps_of_gcm_become_equal(x64):
    """`c(s) = (e^(rate s) - 1) / (e^rate - 1)`, whose slope is `rate e^(rate s) / (e^rate - 1)`."""
    times = np.linspace(0, 1, 9)
    net = WarpedTimes(Heard(), rate=2.0)

    def run(s):
        heard, slope = jax.jvp(lambda s: net(jnp.zeros(2), s, 0.5 * s), (s,), (jnp.ones(()),))
        return heard, slope[0]

    heard, rise = once(jax.vmap(run))(times)
    np.testing.assert_allclose(heard[:, 0], (np.exp(2 * times) - 1) / (np.e**2 - 1), atol=1e-12)
    np.testing.assert_allclose(heard[:, 1], (np.exp(times) - 1) / (np.e**2 - 1), atol=1e-12)
    assert heard[0, 0] == 0 and heard[-1, 0] == 1
    np.testing.assert_allclose(rise * np.exp(-2 * times), 2 / (np.e**2 - 1), rtol=1e-9)


@pytest.mark.parametrize("name", ["sct", "scd", "cct", "gcm-cu"])
def test_methods_of_small_images_hand_their_network_warped_times(name):
    plugin = plugins()[name].preset("small-image")
    own = plugin.around(Heard(), LinearPath())
    assert isinstance(own, WarpedTimes) and own.rate == plugin.conditioning == 3.5
    assert isinstance(own.net, Heard)


def test_a_rate_out_of_range_is_refused():
    with pytest.raises(UserError, match="--plugin.conditioning must be from 0 to 20, got -1"):
        plugins()["cct"](conditioning=-1.0)


def test_a_distiller_hands_on_the_time_as_it_is_and_starts_from_its_teacher():
    """Whose network has never heard another."""
    plugin = plugins()["ccd"].preset("small-image")
    net = MLPConfig(width=4, depth=2).build((2,), 0, key=jr.key(0))
    start = plugins()["fm"](form=plugin.form).flow_map(net, LinearPath())
    assert warm_started(start, plugin.flow_map(net, LinearPath())) is not None


def test_a_start_with_plain_times_is_refused_with_the_flag_that_takes_it():
    net = MLPConfig(width=4, depth=2).build((2,), 0, key=jr.key(0))
    start = plugins()["fm"](form="rotation").flow_map(net, LinearPath())
    plugin = plugins()["sct"].preset("small-image")
    student = plugin.flow_map(net, LinearPath())
    assert warm_started(start, student) is None
    (why,) = unlike(start, student)
    assert "--plugin.conditioning 0" in why
    plain = replace(plugin, conditioning=0.0).flow_map(net, LinearPath())
    assert warm_started(start, plain) is not None
    assert warm_started(student, student) is not None
