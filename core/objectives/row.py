"""One training example at its times: the input of residuals and weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.times.unit import Times


class Row(eqx.Module):
    """One training example at its path times `s`, `u` and `t`.

    `x_s = alpha(s) x_0 + sigma(s) z`, on a geodesic path the point of the geodesic, and `v` is its
    conditional velocity, the derivative of that curve in `s`; `u` is the neighbour of `s` towards
    `t` for rules with a finite step, else `t`; `unit` has the same times in unit time; `key` is the
    row's own randomness, `progress` the fraction of the training that is done, `factor` multiplies
    the map's loss of the row.

    Where guidance is learned, `v` is the guided target. `own` is then the network's velocity at
    `(x_s, s)`, stopped, for terms that need it too. On rows whose term evaluates just that itself,
    `own_share` of it is still to be added to `v`: see `target`.
    """

    x_0: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    s: Float[Array, ""]
    u: Float[Array, ""]
    t: Float[Array, ""]
    unit: Times
    x_s: Float[Array, "*shape"]
    v: Float[Array, "*shape"]
    cond: Condition | None
    key: Key[Array, ""]
    progress: Float[Array, ""]
    factor: Float[Array, ""]
    own: Float[Array, "*shape"] | None = None
    own_share: Float[Array, ""] | None = None

    def target(self, velocity: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The regression target of the diagonal, given the network's velocity at `(x_s, s)`."""
        if self.own_share is None:
            return self.v
        return self.v + self.own_share * jax.lax.stop_gradient(velocity)


def make_row(
    path: Interpolant,
    x_0: Float[Array, "*shape"],
    z: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    cond: Condition | None,
    key: Key[Array, ""],
    *,
    u: Float[Array, ""] | None = None,
    progress: Float[Array, ""] | None = None,
) -> Row:
    """The row of `(x_0, z)` at the path times `s`, `u`, `t`; `u` is `t` where it is not given.

    Without `progress` the row is one of the end of training.
    """
    progress = jnp.ones_like(s) if progress is None else progress
    u = t if u is None else u
    unit = Times(path.unit_time(s), path.unit_time(u), path.unit_time(t))
    x_s, v = path.interpolate(x_0, z, s), path.conditional_velocity(x_0, z, s)
    return Row(x_0, z, s, u, t, unit, x_s, v, cond, key, progress, jnp.ones_like(s))
