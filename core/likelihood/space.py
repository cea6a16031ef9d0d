"""Log-likelihood on a manifold, by the ODE with its exact divergence."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from core.flow.condition import Condition
from core.flow.divergence import ExactDivergence
from core.flow.field import VelocityField
from core.flow.rotations import SO3
from core.flow.solve import AdaptiveSteps, FixedSteps, solve
from core.flow.space import Space
from core.flow.sphere import Sphere
from core.flow.torus import Torus

_AT_ONCE = 512


def log_volume(space: Space, shape: tuple[int, ...]) -> float | None:
    """The logarithm of the volume of a space whose points have this shape, in its own metric: of
    `S^d` `2 pi^((d + 1) / 2) / Gamma((d + 1) / 2)`, of a torus `(2 pi)^d`, of SO(3) as unit
    quaternions up to sign `pi^2`. None where it is not known."""
    factors, dim = math.prod(shape[:-1]), shape[-1]
    if isinstance(space, Torus):
        return factors * dim * math.log(2 * math.pi)
    if isinstance(space, SO3):
        return factors * math.log(math.pi**2)
    if isinstance(space, Sphere):
        half = dim / 2
        return factors * (math.log(2) + half * math.log(math.pi) - math.lgamma(half))
    return None


def space_log_prob(
    field: VelocityField,
    x: Float[Array, "*shape"],
    cond: Condition | None = None,
    *,
    stepping: FixedSteps | AdaptiveSteps = AdaptiveSteps(),
) -> Float[Array, ""]:
    """`log p_0(x)` in nats, the density with respect to the volume of the space of the path.

        log p_0(x) = -log vol + integral over t of div v(x_t, t),      dx/dt = v(x, t)

    for uniform noise. The velocity is continued around the space as `v` of the nearest point: its
    divergence in the coordinates is then that in the space, since it does not change across it.
    Source: Riemannian continuous normalising flows (arXiv 2006.10605), eq. 6; the velocity as in
    Riemannian flow matching (arXiv 2302.03660), appendix C.

    **Raises:** `ValueError` in a space whose volume is not known.
    """
    space, divergence = field.path.space, ExactDivergence()
    volume = log_volume(space, x.shape)
    if volume is None:
        raise ValueError(f"the volume of {space.name} is not known")

    def rate(state: Array, t: Array) -> Array:
        place = state[:-1].reshape(x.shape)
        v, div = divergence(lambda y: field.velocity(space.project(y), t, cond), place, None)
        return jnp.append(v.reshape(-1), div)

    start = jnp.append(x.reshape(-1), 0.0)
    return solve(rate, start, field.path.t_min, field.path.t_max, stepping=stepping).x[-1] - volume


def negative_log_likelihood(
    field: VelocityField,
    x: Float[np.ndarray, " n *shape"],
    labels: Int[np.ndarray, " n"] | None = None,
    *,
    stepping: FixedSteps | AdaptiveSteps = AdaptiveSteps(),
) -> tuple[float, float]:
    """The mean of `-log p_0` over points, given their labels if there are any, and its standard
    error."""
    parts = []
    for start in range(0, len(x), _AT_ONCE):
        index = np.minimum(np.arange(start, start + _AT_ONCE), len(x) - 1)  # one program for all
        given = None if labels is None else jnp.asarray(labels[index])
        some = jnp.asarray(x[index], jnp.float32)
        found = np.asarray(_log_probs(field, some, given, stepping), np.float64)
        parts.append(found[: len(x) - start])
    values = -np.concatenate(parts)
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))


@eqx.filter_jit
def _log_probs(
    field: VelocityField,
    x: Float[Array, " n *shape"],
    labels: Int[Array, " n"] | None,
    stepping: FixedSteps | AdaptiveSteps,
) -> Float[Array, " n"]:
    def one(point: Array, label: Array | None) -> Array:
        cond = None if label is None else Condition(label, None)
        return space_log_prob(field, point, cond, stepping=stepping)

    return jax.vmap(one)(x, labels)
