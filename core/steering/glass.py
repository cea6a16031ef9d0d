"""Exact draws from the posterior `p(x_0 | x_t = x)` with a velocity that was trained for `p` alone.

A second view `y_s = alpha_s x_0 + sigma_s z` of the same clean example, with its own noise, is
started as noise and taken to the data end. Two Gaussian views are worth one cleaner view:

    a = alpha_t / sigma_t,   b = alpha_s / sigma_s,   r = sqrt(a^2 + b^2),   alpha* / sigma* = r
    E[x_0 | x_t = x, y_s = y] = D(x*, t*),      x* = sigma* (a x / sigma_t + b y / sigma_s) / r

so the flow of `y` given `x` has a velocity in closed form: it is the path's own, with this denoiser
in place of `D(y, s)`. Source: GLASS (arXiv 2509.25170), here on any path; no training.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.field import VelocityField
from core.flow.path import Path, gaussian
from core.sampling import DpmPlusPlus
from core.sampling.sampler import Nodes


class PosteriorVelocity(VelocityField):
    """The velocity of the flow from noise to `p(x_0 | x_t = x)`.

    Finite where neither time is at the data end (`sigma > 0`). A state at the noise end says
    nothing: its posterior is the prior.
    """

    field: VelocityField
    path: Path
    x: Float[Array, "*shape"]
    t: Float[Array, ""]

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        path = self.path
        x_0 = self.denoised(x, t, cond)
        return path.conditional_velocity(x_0, (x - path.alpha(t) * x_0) / path.sigma(t), t)

    def denoised(
        self, y: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        """`E[x_0 | x_t = x, y_s = y]`, by one evaluation of the velocity."""
        path = self.path
        a, b = path.alpha(self.t) / path.sigma(self.t), path.alpha(s) / path.sigma(s)
        r = jnp.sqrt(a**2 + b**2)
        known = r > 0  # at the noise end neither view says anything: keep the first
        safe = jnp.where(known, r, 1.0)
        first, second = jnp.where(known, a / safe, 1.0), b / safe
        t_both = jnp.clip(path.time_of_ray(r, jnp.ones_like(r)), path.t_min, path.t_max)
        mixed = first * self.x / path.sigma(self.t) + second * y / path.sigma(s)
        both = path.sigma(t_both) * mixed
        v = self.field.velocity(both, t_both, cond)
        return convert(path, v, both, t_both, source="velocity", target="x_0")


def posterior_draw(
    field: VelocityField,
    x: Float[Array, "*shape"],
    t: Float[Array, ""],
    key: Key[Array, ""],
    cond: Condition | None = None,
    steps: int = 8,
) -> Float[Array, "*shape"]:
    """One draw `x_0 ~ p(x_0 | x_t = x)`: `steps` evaluations of the velocity, exact as they grow.

    Steps of order 2 (DPM-Solver++). It is differentiable in `x` with the noise of the draw, `key`,
    held fixed.
    """
    path = field.path
    key_start, key_steps = jr.split(key)
    times: Nodes = jax.vmap(path.time_of_unit)(jnp.linspace(1.0, 0.0, steps + 1, dtype=x.dtype))
    inner = PosteriorVelocity(field=field, path=gaussian(path), x=x, t=t)
    y = path.prior(key_start, x.shape)
    return DpmPlusPlus()(inner, y, times, cond, key=key_steps).x
