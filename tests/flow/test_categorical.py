"""Flow maps of tokens: the endpoint is a probability vector, the velocity follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.flow.categorical import CategoricalMap, of_tokens
from core.flow.flow_map import AverageVelocityMap, EndpointMap
from core.flow.path import LinearPath, TrigPath
from tests.compiling import once


def net(x, s, t, cond=None):
    return 3 * jnp.sin(x[::-1] + s) - 2 * t * x


def test_the_map_is_a_line_to_its_endpoint_and_that_of_an_endpoint_map(normal, x64):
    """`EndpointMap` around the softmax is the same map; its code is another."""
    x, s, t = normal(5, 3, 4), np.linspace(0.2, 1, 5), np.linspace(0.0, 0.6, 5)
    flow_map = CategoricalMap(net, LinearPath())
    plain = EndpointMap(lambda *given: jax.nn.softmax(net(*given)), LinearPath())

    def run(x, s, t):
        found = [jax.vmap(m)(x, s, t) for m in (flow_map, plain)]
        return *found, jax.vmap(flow_map.endpoint)(x, s, t), jax.vmap(flow_map.velocity)(x, s)

    F, same, psi, v = once(run)(x, s, t)
    share = (t / s)[:, None, None]
    np.testing.assert_allclose(psi.sum(-1), 1, atol=1e-14)
    np.testing.assert_allclose(F, share * x + (1 - share) * psi, atol=1e-13)
    np.testing.assert_allclose(F, same, atol=1e-13)
    assert np.isfinite(v).all()


def test_logits_are_wide_and_the_network_receives_the_time_of_the_clock(normal):
    received = []

    def narrow(x, s, t, cond=None):
        received.append((s, t))
        return x.astype(jnp.bfloat16)

    flow_map = CategoricalMap(narrow, LinearPath(), clock=lambda time, symbols: time / symbols)
    x = normal(3, 4)
    zeta = once(lambda x: (flow_map.logits(x, jnp.float32(0.8), jnp.float32(0.4)), *received[0]))(x)
    assert zeta[0].dtype == np.float32
    np.testing.assert_allclose(zeta[1:], (0.2, 0.1), rtol=1e-6)


def test_other_paths_and_maps_that_are_none_of_tokens_are_refused():
    with pytest.raises(UserError, match="--path linear"):
        CategoricalMap(net, TrigPath())
    with pytest.raises(UserError, match="data of tokens"):
        of_tokens(AverageVelocityMap(net, LinearPath()))
