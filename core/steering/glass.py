"""Draws from the posterior `p(x_0 | x_t = x)` with the velocity of `p` alone.

A second view `y_s = (1 - s) x_0 + s z` of the same clean example is taken from noise to data. The
two views are worth one cleaner view:

    P = ((1-t)/t)^2 + ((1-s)/s)^2,   m = ((1-t) x / t^2 + (1-s) y / s^2) / P
    dy/ds = (y - D((1 - t*) m, t*)) / s,   t* = 1 / (1 + sqrt P)

Source: GLASS Flows (arXiv 2509.25170).
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.condition import Condition
from core.flow_map import FlowMap


def posterior_draw(
    flow_map: FlowMap,
    x: Float[Array, "*shape"],
    t: Float[Array, ""],
    key: Key[Array, ""],
    cond: Condition | None = None,
    steps: int = 8,
) -> Float[Array, "*shape"]:
    """One draw, of `steps` evaluations (DPM-Solver++ 2M); exact as they grow. Linear path only."""
    grid = jnp.linspace(1.0, 0.0, steps + 1).astype(x.dtype)
    middle = grid[1:-1]
    log_snr = jnp.log1p(-middle) - jnp.log(middle)
    after, before = log_snr[1:] - log_snr[:-1], log_snr[:-1]
    before = before - jnp.append(-jnp.inf, log_snr)[: len(before)]
    ahead = jnp.concatenate([jnp.zeros(1), after / (2 * before), jnp.zeros(2)])[:steps]

    def step(state, now):
        y, last = state
        s, to, ahead = now
        D = denoised(flow_map, x, t, y, s, cond)
        better = D + ahead.astype(D.dtype) * (D - last)
        return (better + to / s * (y - better), D), None

    y = jr.normal(key, x.shape, x.dtype)
    (x_0, _), _ = jax.lax.scan(step, (y, y), (grid[:-1], grid[1:], ahead))
    return x_0


def denoised(
    flow_map: FlowMap,
    x: Float[Array, "*shape"],
    t: Float[Array, ""],
    y: Float[Array, "*shape"],
    s: Float[Array, ""],
    cond: Condition | None = None,
) -> Float[Array, "*shape"]:
    """`E[x_0 | x_t = x, y_s = y]`, for `0 < t < 1` and `0 < s <= 1`."""
    P = ((1 - t) / t) ** 2 + ((1 - s) / s) ** 2
    m = ((1 - t) / t**2 * x + (1 - s) / s**2 * y) / P
    both = 1 / (1 + jnp.sqrt(P))
    state = (1 - both) * m
    return state - both * flow_map.velocity(state, both, cond)
