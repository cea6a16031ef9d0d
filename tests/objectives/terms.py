"""A small network, the shipped terms and methods, for the tests of objectives."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from core.flow.network import Network
from core.flow.path import LinearPath
from core.flow.teacher import frozen
from core.methods.plugin import Task
from core.objectives.objective import FlowMatching, RowKind
from core.objectives.rows import RowObjective
from core.times.distributions import Point
from core.times.pairs import OrderedPair
from plugins.flow_matching import FM
from plugins.meanflow import IMF, MF
from plugins.meanflow.head import HeadDiagonal, HeadJump
from plugins.meanflow.imf import BoundaryJump
from plugins.meanflow.mf import MeanFlowJump

IMAGE = (8, 8, 1)
STEP = jnp.zeros((), jnp.int32)
FIVE_IMAGES = (5, *IMAGE)  # five rows of one channel: broadcasting across rows would show


class TinyNet(Network):
    """A small smooth network of any shape with a velocity head."""

    first: Array
    second: Array
    head: Array
    has_head: bool = eqx.field(static=True, default=True)

    def __init__(self, shape, width=16, *, key):
        dim = math.prod(shape)
        rng = np.random.default_rng(np.asarray(jr.key_data(key)))  # on the host: nothing compiles

        def weights(*shape, fan_in):
            drawn = rng.standard_normal(shape) / fan_in**0.5
            return jax.device_put(drawn.astype(jax.dtypes.canonicalize_dtype(float)))

        self.first = weights(width, dim + 2, fan_in=dim)
        self.second = weights(dim, width, fan_in=width)
        self.head = weights(dim, width, fan_in=width)

    @property
    def last_weight(self):
        return self.second

    def _hidden(self, x, s, t):
        return jnp.tanh(self.first @ jnp.concatenate([x.ravel(), s[None], t[None]]))

    def __call__(self, x, s, t, cond=None):
        return (self.second @ self._hidden(x, s, t)).reshape(x.shape)

    def with_head(self, x, s, t, cond=None):
        h = self._hidden(x, s, t)
        return (self.second @ h).reshape(x.shape), (self.head @ h).reshape(x.shape)


class Zero(Network):
    """The network that is zero, and so is every derivative of it."""

    has_head: bool = eqx.field(static=True, default=True)

    def __call__(self, x, s, t, cond=None):
        return jnp.zeros_like(x)

    def with_head(self, x, s, t, cond=None):
        return jnp.zeros_like(x), jnp.zeros_like(x)


PLUGINS = {"fm": FM(), "mf": MF(), "imf": IMF(), "imf head": IMF(head=True)}
JUMPS = {"mf": MeanFlowJump(), "imf": BoundaryJump(), "imf head": HeadJump()}
TERMS = {**JUMPS, "fm": FlowMatching(), "head diagonal": HeadDiagonal()}


def method(plugin, net, path=LinearPath(), classes=0):
    task = Task((2,), "points", classes)
    return plugin.method(net, path, None, task, key=jr.key(0))


@eqx.filter_jit
def call(objective, model, batch):
    target = {"model": frozen(model)}
    return objective({"model": model}, target, None, batch, jr.key(7), STEP)


def only(term):
    """An objective of one kind of row at one pair of times, without noise: nothing is random."""
    kind = RowKind("jump", 1.0, OrderedPair(Point(0.9), Point(0.3)), term)
    return RowObjective(LinearPath(noise_std=0.0), (kind,))
