"""Bounds of the Wasserstein distance between what a map draws and what its ODE draws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.flow.condition import Condition
from core.flow.flow_map import FlowMap

POWER_STEPS = 12


@eqx.filter_jit
def stretch(
    flow_map: FlowMap,
    x: Float[Array, " n *shape"],
    label: Int[Array, " n"] | None,
    t: Float[Array, ""],
    *,
    key: Key[Array, ""],
) -> Float[Array, ""]:
    """The largest singular value of `grad v(x, t)` over some states, by power iteration.

    A lower estimate of the Lipschitz constant of the velocity at `t`: the states are a sample.
    """

    def one(x: Array, label: Array | None, key: Key[Array, ""]) -> Array:
        cond = None if label is None else Condition(label)

        def velocity(y: Array) -> Array:
            return flow_map.velocity(y, t, cond)

        _, pull = jax.vjp(velocity, x)

        def turn(direction: Array, _: None) -> tuple[Array, Array]:
            pushed = jax.jvp(velocity, (x,), (direction,))[1]
            (back,) = pull(pushed)
            size = jnp.sqrt(jnp.sum(pushed**2))
            return back / jnp.maximum(jnp.sqrt(jnp.sum(back**2)), 1e-20), size

        start = jax.random.normal(key, x.shape)
        start = start / jnp.sqrt(jnp.sum(start**2))
        return jax.lax.scan(turn, start, None, length=POWER_STEPS)[1][-1]

    return jnp.max(jax.vmap(one)(x, label, jax.random.split(key, len(x))))


def gronwall(
    times: Float[np.ndarray, " nodes"],
    residuals: Float[np.ndarray, " nodes"],
    stretches: Float[np.ndarray, " nodes"],
) -> float:
    """`integral over t of r(t) exp(integral from t_min to t of L(u) du)`, by the trapezoidal rule.

    With `r(t) = (E |dF/dt - v(F, t)|^2)^(1/2)`, the Lagrangian residual of the whole jump stopped
    at `t`, and `L(t)` a Lipschitz constant of `v(., t)`, this bounds the Wasserstein-2 distance
    between `F(z, 1, 0)` and the ODE's solution: the distance `e` of two states from the same noise
    obeys `|e'| <= r + L e` (Gronwall), and noise couples the two. Source: Boffi et al. (arXiv
    2406.07507), proposition 3.7, whose form squares first. `times` decrease.
    """
    up = times[::-1]
    r, L = residuals[::-1], stretches[::-1]
    widths = np.diff(up)
    grown = np.concatenate([[0.0], np.cumsum(widths * (L[1:] + L[:-1]) / 2)])
    integrand = r * np.exp(grown)
    return float(np.sum(widths * (integrand[1:] + integrand[:-1]) / 2))
