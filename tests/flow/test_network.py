"""Abilities of networks beside the call, and those that maps around maps hand on."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.flow.change import MovedMap
from core.flow.flow_map import AverageVelocityMap, DataEndMap, FlowMap
from core.flow.network import Network, as_network
from core.flow.path import LinearPath, TrigPath
from core.flow.teacher import Guided
from core.sampling import SAMPLERS, check_sampler
from tests.compiling import once


class Split(Network):
    """`N = sin(x + s) + t x`, decoupled, with the head `v = cos(x + s)`, and what was called."""

    called: list = eqx.field(static=True)
    decoupled: bool = eqx.field(static=True, default=True)
    has_head: bool = eqx.field(static=True, default=True)

    def __call__(self, x, s, t, cond=None):
        self.called.append("call")
        return jnp.sin(x + s) + t * x

    def encode(self, x, s, cond=None):
        self.called.append("encode")
        return jnp.sin(x + s), x

    def decode(self, encoding, t):
        self.called.append("decode")
        return encoding[0] + t * encoding[1]

    def with_head(self, x, s, t, cond=None):
        self.called.append("head")
        return jnp.sin(x + s) + t * x, jnp.cos(x + s)


def around(flow_map):
    return {
        "itself": flow_map,
        "data end": DataEndMap.of(flow_map),
        "moved": MovedMap(flow_map, TrigPath()),
    }


def test_a_map_around_a_map_hands_on_encoder_and_head(normal, x64):
    x, s, t, called = normal(3), np.asarray(0.8), np.asarray(0.3), []
    inner = AverageVelocityMap(Split(called), LinearPath())

    def values(maps, x, s, t):
        made = {}
        for name, flow_map in maps.items():
            encoding = flow_map.encode(x, s)
            made[name] = (
                flow_map.decode(encoding, t),
                flow_map.average_velocity(x, s, t),
                *flow_map.with_velocity(x, s, t),
            )
        return made

    found = once(values)(around(inner), x, s, t)
    assert called == 3 * ["encode", "decode", "call", "head"]
    for name, (decoded, V, V_head, v) in found.items():
        np.testing.assert_allclose(decoded, V, rtol=1e-12)
        np.testing.assert_allclose(V_head, V, rtol=1e-12)
        assert np.abs(v - V).min() > 1e-3 and around(inner)[name].has_head
    np.testing.assert_allclose(found["itself"][1], np.sin(x + 0.8) + 0.3 * x, rtol=1e-12)
    np.testing.assert_allclose(found["data end"][3], np.cos(x + 0.8), rtol=1e-12)


def test_any_function_is_a_network_without_extras(normal, x64):
    x, s, t = normal(3), np.asarray(0.8), np.asarray(0.3)

    def net(x, s, t, cond):
        return s * x + t

    flow_map = AverageVelocityMap(net, LinearPath())
    V, v = once(flow_map.with_velocity)(x, s, t)
    np.testing.assert_allclose(V, 0.8 * x + 0.3, rtol=1e-12)
    np.testing.assert_allclose(v, 0.8 * x + 0.8, rtol=1e-12)
    plain = as_network(net)
    assert not (plain.has_head or plain.decoupled or plain.takes_guidance or flow_map.has_head)
    assert plain.last_weight is None and as_network(plain) is plain


def test_a_field_that_is_no_map_is_sampled_by_its_velocity_alone():
    field = Guided(AverageVelocityMap(lambda x, s, t, cond: x, LinearPath()), None, 3)
    assert not isinstance(field, FlowMap) and field.evaluations == 2
    check_sampler("heun", SAMPLERS["heun"], field)
    for name in ("pushforward", "restart"):
        with pytest.raises(UserError, match=f"'{name}' needs .*; use --sampler euler"):
            check_sampler(name, SAMPLERS[name], field, SAMPLERS["pushforward"])
