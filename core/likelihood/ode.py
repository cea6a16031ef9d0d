"""Log-likelihood by the probability-flow ODE: the reference for every other."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.divergence import Divergence, ExactDivergence
from core.flow.field import VelocityField
from core.flow.path import Path, gaussian
from core.flow.solve import AdaptiveSteps, FixedSteps, solve


def prior_log_prob(path: Path, z: Float[Array, "*shape"]) -> Float[Array, ""]:
    """`log N(z; 0, sigma(t_max)^2 noise_std^2 I)` in nats, of the start of sampling."""
    std = path.sigma(path.t_max) * path.noise_std
    return -0.5 * jnp.sum((z / std) ** 2) - z.size * (jnp.log(std) + 0.5 * jnp.log(2 * jnp.pi))


def ode_log_prob(
    field: VelocityField,
    x: Float[Array, "*shape"],
    cond: Condition | None = None,
    *,
    key: Key[Array, ""],
    divergence: Divergence = ExactDivergence(),
    stepping: FixedSteps | AdaptiveSteps = AdaptiveSteps(),
) -> tuple[Float[Array, ""], Float[Array, "*shape"]]:
    """`log p_0(x)` in nats, and the noise that the ODE carries `x` to.

        log p_0(x) = log p_1(x_1) + integral over t of div v(x_t, t),      dx/dt = v(x, t)

    from `t_min` to `t_max` of the path. State and integral are solved together, so the tolerance
    of `stepping` holds for both; `key` is for a divergence that is estimated. Source: Neural ODEs
    (arXiv 1806.07366), eq. 8; Song et al. (arXiv 2011.13456), eq. 39.
    """
    path, probe = gaussian(field.path), divergence.probe(x, key)

    def rate(state: Array, t: Array) -> Array:
        place = state[:-1].reshape(x.shape)
        v, div = divergence(lambda y: field.velocity(y, t, cond), place, probe)
        return jnp.append(v.reshape(-1), div)

    start = jnp.append(x.reshape(-1), 0.0)
    end = solve(rate, start, path.t_min, path.t_max, stepping=stepping).x
    z = end[:-1].reshape(x.shape)
    return prior_log_prob(path, z) + end[-1], z
