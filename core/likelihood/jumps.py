"""Log-likelihood through the jumps of a flow map, in both directions.

A flow map is a bijection: `log p_s(x) = log p_t(F(x, s, t)) + log |det dF(x, s, t)/dx|`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.likelihood.log_det import ExactLogDet, LogDet
from core.likelihood.ode import prior_log_prob


class Traced(eqx.Module):
    """The end of a chain of jumps.

    **Fields:** `x`, where it ends; `log_prob`, in nats: of the start where the chain goes to
    noise, of the end where it comes from noise; `folds`, the number of jumps whose determinant is
    negative, of a map that is no bijection there.
    """

    x: Float[Array, "*shape"]
    log_prob: Float[Array, ""]
    folds: Float[Array, ""]


def log_prob(
    flow_map: FlowMap,
    x: Float[Array, "*shape"],
    times: Float[Array, " nodes"],
    cond: Condition | None = None,
    *,
    key: Key[Array, ""],
    log_det: LogDet = ExactLogDet(),
) -> Traced:
    """`log p_0(x)` by jumps towards noise: `times` increase from the path's `t_min` to `t_max`.

    The map must know jumps in that direction (`s < t`): where it was trained towards data alone,
    compare `round_trip` first.
    """
    ends, total, folds = _chain(flow_map, x, times, cond, key, log_det)
    return Traced(ends, prior_log_prob(gaussian(flow_map.path), ends) + total, folds)


def sample_log_prob(
    flow_map: FlowMap,
    z: Float[Array, "*shape"],
    times: Float[Array, " nodes"],
    cond: Condition | None = None,
    *,
    key: Key[Array, ""],
    log_det: LogDet = ExactLogDet(),
) -> Traced:
    """The sample that jumps along decreasing `times` make of the noise `z`, and its `log p_F`,
    the density of what the map in fact draws: `log N(z) - sum of log |det|`. No inverse is needed.

    It is the density as far as the map is one-to-one.
    """
    ends, total, folds = _chain(flow_map, z, times, cond, key, log_det)
    return Traced(ends, prior_log_prob(gaussian(flow_map.path), z) - total, folds)


def round_trip(
    flow_map: FlowMap,
    x: Float[Array, "*shape"],
    times: Float[Array, " nodes"],
    cond: Condition | None = None,
) -> Float[Array, ""]:
    """`|F(F(x, 0, 1), 1, 0) - x| / |x|`: there along increasing `times` and back along the same."""

    def jump(place: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        return flow_map(place, *ends, cond), None

    back = times[::-1]
    there, _ = jax.lax.scan(jump, x, (times[:-1], times[1:]))
    again, _ = jax.lax.scan(jump, there, (back[:-1], back[1:]))
    return jnp.linalg.norm(jnp.ravel(again - x)) / jnp.linalg.norm(jnp.ravel(x))


def _chain(
    flow_map: FlowMap,
    x: Float[Array, "*shape"],
    times: Float[Array, " nodes"],
    cond: Condition | None,
    key: Key[Array, ""],
    log_det: LogDet,
) -> tuple[Float[Array, "*shape"], Float[Array, ""], Float[Array, ""]]:
    def jump(carry: tuple[Array, Array, Array], step: tuple) -> tuple[tuple, None]:
        place, total, folds = carry
        s, t, own = step
        made = log_det(flow_map, place, s, t, cond, key=own)
        return (made.x, total + made.log_det, folds + (made.sign < 0)), None

    zero = jnp.zeros((), x.dtype)
    steps = times[:-1], times[1:], jr.split(key, len(times) - 1)
    return jax.lax.scan(jump, (x, zero, zero), steps)[0]
