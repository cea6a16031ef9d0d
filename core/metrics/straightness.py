"""How straight the trajectories of a velocity field are."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.flow.field import VelocityField


@dataclass(frozen=True)
class Straightness:
    """Means over trajectories from t = 1 to t = 0.

    **Fields:** `bend`, the mean squared deviation of the velocity from the chord, in units of the
    squared chord, `E int |v(x_t, t) - (x_1 - x_0)|^2 dt / E |x_1 - x_0|^2`: 0 where every
    trajectory is a straight line of constant speed, and then one Euler step is exact; `cost`,
    `E |x_1 - x_0|^2`, what the field transports over, summed over dimensions.
    """

    bend: float
    cost: float


def straightness(
    field: VelocityField, starts: Float[np.ndarray, " n *shape"], steps: int = 100
) -> Straightness:
    """The straightness of the trajectories from these states at t = 1, without conditions.

    By `steps` Euler steps, of which the chord is the mean, so that `bend` is the variance of the
    velocity along a trajectory. For the linear path: on others a straight line in time is none in
    space. Source: rectified flow (arXiv 2209.03003), eq. 4, there without the division.
    """
    bend, cost = _measured(field, jnp.asarray(starts), steps)
    return Straightness(float(bend), float(cost))


@eqx.filter_jit
def _measured(
    field: VelocityField, starts: Float[Array, " n *shape"], steps: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    times = jnp.linspace(1.0, 0.0, steps + 1)[:-1]

    def one(x):
        def move(x, t):
            v = field.velocity(x, t)
            return x - v / steps, v

        _, along = jax.lax.scan(move, x, times)
        chord = jnp.mean(along, axis=0)
        return jnp.sum((along - chord[None]) ** 2) / steps, jnp.sum(chord**2)

    bends, costs = jax.vmap(one)(starts)
    return jnp.mean(bends) / jnp.mean(costs), jnp.mean(costs)
