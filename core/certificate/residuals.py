"""How far a trained map is from its own rules and its own ODE, over a grid of `(s, t)`."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from core.flow import rules
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.flow.solve import FixedSteps, solve

KINDS = ("eulerian", "lagrangian", "compositional", "round_trip", "ode", "end")
"""What is measured; see `measure`."""
Tables = dict[str, Float[np.ndarray, "nodes nodes"]]


def measure(
    flow_map: FlowMap,
    x_0: Float[Array, " n *shape"],
    z: Float[Array, " n *shape"],
    label: Int[Array, " n"] | None,
    times: Float[np.ndarray, " nodes"],
    *,
    substeps: int = 2,
    progress: Callable[[int], None] | None = None,
) -> Tables:
    """Root mean squares over examples and numbers, of jumps from `times[i]` to `times[j]`, `i < j`.

    All are lengths in network values. With `v` the diagonal, `F` the jump and `h = t - s`:

    - `eulerian`: `h (V - v(x_s, s) - h DV_ds)`, `lagrangian`: `h (V + h dV_dt - v(F, t))`,
      `compositional`: `h (V - V by way of the middle)`, `round_trip`: `F(F, t, s) - x_s`;
    - `ode`: `F` minus the ODE's own solution at `t` from the same state, along the diagonal, by
      `substeps` Heun steps between neighbouring times;
    - `end`: the same with both carried on to the last time by the ODE: what the jump costs there.

    Entries with `i >= j` are nan. States are `x_s` of the pairs `(x_0, z)`. **Arguments:** `times`
    decreasing path times; `progress` is called with 1 after each source time.
    """
    gaussian(flow_map.path)
    found = {kind: np.full((len(times), len(times)), np.nan) for kind in KINDS}
    nodes = jnp.asarray(times, jnp.float32)
    for i in range(len(times) - 1):
        row = _row(flow_map, x_0, z, label, nodes, jnp.asarray(i), substeps)
        for kind in KINDS:
            found[kind][i, i + 1 :] = np.asarray(row[kind])[i + 1 :]
        if progress is not None:
            progress(1)
    return found


@eqx.filter_jit
def _row(
    flow_map: FlowMap,
    x_0: Float[Array, " n *shape"],
    z: Float[Array, " n *shape"],
    label: Int[Array, " n"] | None,
    times: Float[Array, " nodes"],
    i: Int[Array, ""],
    substeps: int,
) -> dict[str, Float[Array, " nodes"]]:
    """The entries of one source time for all target times; those above it mean nothing."""

    def example(x_0: Array, z: Array, label: Array | None) -> dict[str, Array]:
        cond = None if label is None else Condition(label)
        s = times[i]
        x_s = gaussian(flow_map.path).interpolate(x_0, z, s)
        true = _trajectory(flow_map, x_s, times, i, cond, substeps)
        return jax.lax.map(
            lambda j: _pair(flow_map, x_s, true, times, i, j, cond, substeps),
            jnp.arange(len(times)),
        )

    squares = jax.vmap(example)(x_0, z, label)
    return {kind: jnp.sqrt(jnp.mean(value, axis=0)) for kind, value in squares.items()}


def _pair(
    flow_map: FlowMap,
    x_s: Array,
    true: Array,
    times: Array,
    i: Array,
    j: Array,
    cond: Condition | None,
    substeps: int,
) -> dict[str, Array]:
    """Mean squares of one example at one pair of times."""
    s, t = times[i], times[j]
    h = t - s
    velocity = flow_map.velocity(x_s, s, cond)
    V, along = rules.eulerian(flow_map, x_s, s, t, velocity, cond)
    _, slope = rules.lagrangian(flow_map, x_s, s, t, cond)
    jumped = x_s + h * V
    halves = rules.compositional(flow_map, x_s, s, t, jnp.full((), 0.5), cond)
    gone_on = _trajectory(flow_map, jumped, times, j, cond, substeps)
    misses = {
        "eulerian": h * (V - velocity - h * along),
        "lagrangian": h * (V + h * slope - flow_map.velocity(jumped, t, cond)),
        "compositional": h * (V - halves),
        "round_trip": flow_map(jumped, t, s, cond) - x_s,
        "ode": jumped - true[j],
        "end": gone_on[-1] - true[-1],
    }
    return {kind: jnp.mean(miss**2) for kind, miss in misses.items()}


def _trajectory(
    flow_map: FlowMap,
    x: Array,
    times: Array,
    i: Array,
    cond: Condition | None,
    substeps: int,
) -> Array:
    """The ODE's states at all times from number `i` on; `x` itself at those before."""

    def interval(state: Array, k: Array) -> tuple[Array, Array]:
        # From a time before the start nothing moves: both ends are the same.
        start = jnp.where(k < i, times[k + 1], times[k])
        moved = solve(
            lambda y, u: flow_map.velocity(y, u, cond), state, start, times[k + 1],
            stepping=FixedSteps("heun", substeps),
        ).x  # fmt: skip
        return moved, moved

    _, states = jax.lax.scan(interval, x, jnp.arange(len(times) - 1))
    return jnp.concatenate([x[None], states])
