"""How much rows count by their source time, and where one-step sampling starts.

A one-step sample is the jump from the noise end. What training gives no weight there the sampler
reads off the network all the same, so a weight that vanishes at an end of the interval is a fault
that no residual shows. `weighting` evaluates the weight of each kind of jump rows for a residual of
unit length on whole jumps, `(s, u, 0)` with the kind's own neighbour `u`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from core.conformance.probes import NoNetwork
from core.flow.categorical import CategoricalMap
from core.flow.flow_map import AverageVelocityMap
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import MapTeacher
from core.methods.plugin import Plugin, Task
from core.objectives.objective import RowKind
from core.objectives.rows import RowObjective
from core.times.pairs import Diagonal
from core.times.unit import Times

SOURCES = (0.001, 0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98, 1.0)
"""Unit times at which weights are tabulated."""
DRAWN = 16_384


@dataclasses.dataclass(frozen=True)
class Weighting:
    """One kind of rows: weights at `SOURCES` over the largest of them, the share of rows that start
    above 0.98, and the largest time at which one starts."""

    kind: str
    weights: tuple[float, ...]
    above: float
    last: float

    @property
    def at_start(self) -> float:
        """The weight at `s = 1` over that at 0.98."""
        return self.weights[-1] / self.weights[-2]


def weighting(
    plugin: Plugin, path: Interpolant, *, kind: str = "image", seed: int = 0
) -> list[Weighting]:
    """The weights of each kind of jump rows at the end of training; none for an objective without
    rows, whose jumps all start at noise."""
    task, net, key = Task((8, 8, 1), kind, 10), NoNetwork(), jr.key(seed)
    teacher = MapTeacher(AverageVelocityMap(net=net, path=path))
    if plugin.tokens:
        task = Task((8, 8), "tokens")
        teacher = MapTeacher(CategoricalMap(net=net, path=gaussian(path)))
    objective = plugin.method(net, path, teacher, task, key=key).objective
    if not isinstance(objective, RowObjective):
        return []
    found = []
    for one in objective.kinds:
        if one.share > 0 and not isinstance(one.times, Diagonal):
            weights, s = (np.asarray(a, np.float64) for a in _weights(one, key))
            above, last = float(np.mean(s > 0.98)), float(np.max(s))
            found.append(Weighting(one.name, tuple(weights / weights.max()), above, last))
    return found


@eqx.filter_jit
def _weights(kind: RowKind, key: Array) -> tuple[Float[Array, " times"], Float[Array, " rows"]]:
    """The weights at `SOURCES`, and the source times of drawn rows."""
    s = jnp.asarray(SOURCES)
    t, done = jnp.zeros_like(s), jnp.ones(())
    u = t if kind.step is None else kind.step(s, t, done)
    weight = kind.weight[0] if isinstance(kind.weight, tuple) else kind.weight
    weights = jax.vmap(lambda *times: weight(jnp.ones(1), Times(*times)))(s, u, t)
    return weights, kind.times(key, DRAWN, done)[0]
