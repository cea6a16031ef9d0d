"""Weights in time: the papers' values at the ends, and where one-step sampling starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apps._weighting import passes
from core.conformance.weighting import SOURCES, weighting
from core.flow.network import as_network
from core.flow.path import LinearPath, TrigPath
from core.methods.registry import plugins
from core.objectives.weights import Adaptive, Scaled
from core.sampling import SAMPLERS
from core.times.unit import Times
from core.times.weights import Ramp
from plugins.consistency.ect import ECT
from plugins.consistency.ict import ICT
from plugins.consistency.imm import IMM
from plugins.meanflow.pmf import PMF
from tests.compiling import once

OF_IMAGES = {name: cls for name, cls in plugins().items() if not cls.tokens}
METHODS = {name: cls for name, cls in OF_IMAGES.items() if cls.card.kind == "method"}


def sigma_of_nodes(n):
    """EDM's grid of `n` intervals, from 0.002 to 80; ascending."""
    low, high = 0.002 ** (1 / 7), 80 ** (1 / 7)
    return (low + np.arange(n + 1) / n * (high - low)) ** 7


def factors(plugin, s, progress=1.0):
    """The plugin's weight in time at source times `s`, with its own neighbours."""
    step, factor = plugin.step_function(), plugin.factor()

    def at(s):
        t = jnp.zeros_like(s)
        return factor(Times(s, step(s, t, jnp.asarray(progress)), t))

    return once(jax.vmap(at))(np.asarray(s, np.float32))


@pytest.mark.parametrize("last", [80, 1280])
def test_ict_weighs_its_last_nodes_by_the_gaps_of_the_grid(last):
    """Also the one at s = 1, which stands for sigma 80. Source: iCT, section 3.2."""
    sigma = sigma_of_nodes(last)
    s = sigma / (1 + sigma)
    found = factors(ICT(last=last), [*s[-5:-1], 1.0])
    np.testing.assert_allclose(found, 1 / np.diff(sigma)[-5:], rtol=0.03)


def test_ect_weighs_its_noise_end_as_the_sigma_it_stands_for():
    plugin = ECT(stages=8)
    s = np.array([0.9, 0.98, 80 / 81, 0.995, 1.0])
    sigma = np.minimum(s / np.maximum(1 - s, 1e-6), 80)
    gap = sigma * 2.0**-8 * (1 + 8 / (1 + np.exp(sigma)))
    np.testing.assert_allclose(factors(plugin, s), 1 / gap, rtol=0.02)


def test_weights_do_not_vanish_where_one_step_sampling_starts():
    """The two that did, and one of each other shape of weight."""
    for name in ("ict", "ect", "gcm-vu", "imm"):
        for found in weighting(METHODS[name].preset("image"), LinearPath()):
            assert passes(found), (name, found)
            assert len(found.weights) == len(SOURCES) and max(found.weights) == 1


@pytest.mark.slow
@pytest.mark.programs(400)
def test_one_step_sampling_starts_where_training_put_weight():
    for name, cls in METHODS.items():
        for kind in ("points", "small-image", "image"):
            for found in weighting(cls.preset(kind), LinearPath(), kind=kind):
                assert passes(found), (name, kind, found)


@pytest.mark.parametrize("path", [LinearPath(), TrigPath()])
@pytest.mark.parametrize("form", ["average", "rotation"])
def test_samplers_ask_imm_for_no_time_outside_its_interval(path, form, normal):
    """A network that is not a number outside: samples are numbers all the same."""
    plugin = IMM(form=form)

    def net(x, s, t, cond):
        ends = (s >= plugin.low) & (s <= plugin.high) & (t >= plugin.low) & (t <= plugin.high)
        return jnp.where(ends, -x, jnp.nan)

    flow_map = plugin.flow_map(as_network(net), path)

    def ends(x):
        whole = flow_map(x, jnp.asarray(path.t_max), jnp.asarray(path.t_min))
        return whole, flow_map.velocity(x, jnp.asarray(path.t_min)), sampled(x)

    def sampled(x):
        u = path.time_of_unit(jnp.asarray(0.5))
        middle = flow_map(x, jnp.asarray(path.t_max), u)
        return flow_map(middle, u, jnp.asarray(path.t_min))

    assert all(np.isfinite(found).all() for found in once(ends)(normal(2).astype(np.float32)))
    assert SAMPLERS[plugin.sampler]


def test_inside_its_interval_the_map_of_imm_is_that_of_the_network(normal):
    x, s, t = normal(2), np.float32(0.7), np.float32(0.3)
    net = lambda x, s, t, cond: x * s - t  # noqa: E731
    V = once(IMM().flow_map(as_network(net), LinearPath()).average_velocity)(x, s, t)
    np.testing.assert_allclose(V, x * s - t, rtol=1e-6)


def test_the_ramp_of_pmf_meets_the_residual_before_the_adaptive_weight(normal):
    """`|r R|^2 / (|r R|^2 + c)`, with `r = s / floor` below the floor."""
    R, s = normal(3), np.array([0.01, 0.04, 0.2], np.float32)
    weight = PMF(power=1.0).weight()
    assert isinstance(weight, Scaled) and isinstance(weight.factor, Ramp)
    assert isinstance(weight.weight, Adaptive)

    def loss(R, s):
        return jax.vmap(lambda one: weight(R, Times(one, one, one)))(s)

    square = np.minimum(1, s / 0.05) ** 2 * np.sum(R**2)
    expected = square / (square + 0.01)
    np.testing.assert_allclose(once(loss)(R, s), expected, rtol=1e-5)
