"""The divergence head of f2d2: its rules hold for the exact one, and it leaves the map alone."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from core.flow.divergence import DIVERGENCE, DivergenceHead
from core.flow.network import Network
from core.flow.path import LinearPath
from core.flow.teacher import frozen
from core.methods.plugin import Task
from core.methods.registry import find_plugin
from core.objectives.objective import Batch
from core.objectives.row import make_row
from core.oracle import OracleMap, mixture_1d
from tests.objectives.terms import TinyNet

PATH = LinearPath()
WEIGHTS, MEANS, STDS = np.array([0.3, 0.7]), np.array([-1.2, 0.8]), np.array([0.35, 0.6])


def exact():
    """Its flow map."""
    return OracleMap(mixture_1d(*(jnp.asarray(part) for part in (WEIGHTS, MEANS, STDS))), PATH)


def log_density(x, t):
    """That of the mixture at time `t`, by its formula."""
    means, stds = (1 - t) * MEANS, jnp.sqrt(((1 - t) * STDS) ** 2 + t**2)
    parts = jnp.log(WEIGHTS / stds) - 0.5 * ((x - means) / stds) ** 2
    return jax.nn.logsumexp(parts) - 0.5 * jnp.log(2 * jnp.pi)


class ExactNet(Network):
    """`(log p_s(x) - log p_t(F)) / (t - s)`, the slope of the velocity where the times agree; and
    `off` times `s`."""

    flow_map: OracleMap
    off: Array

    def __call__(self, x, s, t, cond=None):
        gap = jnp.where(s == t, 1.0, t - s)
        end = self.flow_map(x, s, t)[0]
        along = (log_density(x[0], s) - log_density(end, t)) / gap
        slope = jax.grad(lambda y: self.flow_map.velocity(y[None], s)[0])(x[0])
        return (jnp.where(s == t, slope, along) + self.off * s)[None]


def rows(kind):
    """Sixteen rows at random times; on the diagonal where the kind is of that."""
    keys = jr.split(jr.key(0), 16)
    s = jnp.linspace(0.3, 0.95, 16)
    t = s if kind == "diagonal" else s * jnp.linspace(0.1, 0.7, 16)
    x, z = jnp.linspace(-1.5, 1.5, 16)[:, None], jnp.linspace(1.0, -1.0, 16)[:, None]
    return jax.vmap(lambda *parts: make_row(PATH, *parts[:4], None, parts[4]))(x, z, s, t, keys)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["lagrangian", "compositional"])
def test_the_exact_divergence_has_no_residual_and_another_has(rule, x64):
    plugin = dataclasses.replace(find_plugin("f2d2").preset("points"), rule=rule)
    kinds = plugin.kinds(None, Task((1,)))

    flow_map = exact()

    @jax.jit
    def largest(off):
        head = DivergenceHead(ExactNet(flow_map, off), PATH)
        return [
            jnp.max(
                jnp.abs(jax.vmap(lambda r: kind.term.of_head(head, flow_map, r))(rows(kind.name)))
            )
            for kind in kinds
        ]

    assert [kind.name for kind in kinds] == ["diagonal", "jump"]
    assert max(largest(0.0)) < 1e-9
    assert min(largest(0.1)) > 1e-3


@pytest.mark.slow
def test_the_map_is_trained_as_without_the_head():
    """The losses of the map are those of lsd, and the head's has no gradient in the map."""
    x, step = np.linspace(-1, 1, 8, dtype=np.float32)[:, None], jnp.zeros((), jnp.int32)
    tiny, key = TinyNet((1,), key=jr.key(3)), jr.key(2)

    def losses(name, value):
        plugin = dataclasses.replace(find_plugin(name).preset("points"), both=0.5)
        net = eqx.tree_at(lambda tree: tree.second, tiny, tiny.second * value)
        method = plugin.method(net, PATH, None, Task((1,)), key=key)
        players = {**method.players, "model": method.flow_map}
        if DIVERGENCE in players:  # of its own, so that the number moves the map alone
            players[DIVERGENCE] = DivergenceHead(tiny, PATH)
        return method.objective(players, frozen(players), None, Batch(jnp.asarray(x)), key, step)[0]

    @jax.jit
    def found(value):
        return [
            (losses(name, value), jax.jacrev(lambda v: losses(name, v))(value))
            for name in ("lsd", "f2d2")
        ]

    (lsd, d_lsd), (f2d2, d_f2d2) = found(np.float32(0.3))
    assert np.isclose(lsd["model"], f2d2["model"], rtol=1e-6)
    assert np.isclose(d_lsd["model"], d_f2d2["model"], rtol=1e-5) and d_lsd["model"] != 0
    assert d_f2d2[DIVERGENCE] == 0 and f2d2[DIVERGENCE] > 0
