"""Samplers that solve the ODE `dx/dt = v(x, t)` on the diagonal of a map, and DDIM's family."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.field import VelocityField
from core.flow.path import Time, gaussian
from core.flow.solve import AdaptiveSteps, Solution, solve_grid
from core.sampling.sampler import Need, Nodes, Sampler

_EVALUATIONS = {"euler": 1, "heun": 2}


class Ode(Sampler[VelocityField]):
    """Steps of the ODE along the grid, in the path's own time, by Diffrax.

    Shows how good the velocity is, apart from the map. `solver` is "euler" (order 1, one
    evaluation a step) or "heun" (order 2, two evaluations).
    """

    needs: ClassVar[Need] = "velocity"
    preview: ClassVar[int] = 8

    solver: str = eqx.field(static=True, default="euler")

    def __call__(
        self,
        field: VelocityField,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        del key
        space = field.path.space
        return solve_grid(
            lambda y, u: field.velocity(y, u, cond), x, times, solver=self.solver, space=space
        )

    def draws_noise(self, steps: int) -> bool:
        del steps
        return False

    def steps(self, nfe: int) -> int:
        each = _EVALUATIONS[self.solver]
        if nfe % each:
            raise UserError(
                f"{self.solver} takes {each} evaluations a step, so {nfe} is not possible; "
                f"use a multiple of {each}, or --sampler euler"
            )
        return nfe // each


class AdaptiveOde(Sampler[VelocityField]):
    """The ODE from the first time to the last, in steps that Diffrax chooses (Dormand-Prince 5).

    `tolerance` bounds the error of each step, absolute and relative; in float32 less than 1e-6
    cannot be met. Every example takes its own number of evaluations, known only afterwards. The
    times in between are not looked at.
    """

    needs: ClassVar[Need] = "velocity"

    tolerance: float = eqx.field(static=True, default=1e-5)

    def __check_init__(self):
        if not 0 < self.tolerance < 1:
            raise UserError(f"--tolerance must be between 0 and 1, got {self.tolerance}")

    def __call__(
        self,
        field: VelocityField,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        del key
        stepping = AdaptiveSteps(rtol=self.tolerance, atol=self.tolerance)
        return field.solve(x, times[0], times[-1], cond, stepping=stepping)

    def draws_noise(self, steps: int) -> bool:
        del steps
        return False

    def steps(self, nfe: int) -> int:
        """1 for any `nfe`: its evaluations are its own affair."""
        del nfe
        return 1


class Ddim(Sampler[VelocityField]):
    """DDIM and, with fresh noise, ancestral sampling.

        x_t = alpha_t x_0 + sqrt(sigma_t^2 - c^2) z_hat + c z,      c = randomness * bridge,
        bridge = sigma_t / sigma_s sqrt(sigma_s^2 - (alpha_s / alpha_t sigma_t)^2),

    with `x_0, z_hat` the means of data and noise given `x_s`. `randomness = 0` is DDIM, of order 1
    and on the linear and EDM paths the same as Euler; `randomness = 1` draws from the bridge
    between `x_s` and `x_0`, as DDPM does, and has the right marginals only in the limit of small
    steps. Source: DDIM (arXiv 2010.02502), eqs. 12 and 16, on a general path.
    """

    needs: ClassVar[Need] = "velocity"
    preview: ClassVar[int] = 8

    randomness: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        if not 0 <= self.randomness <= 1:
            raise UserError(f"--randomness must be between 0 and 1, got {self.randomness}")

    def __call__(
        self,
        field: VelocityField,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        path = gaussian(field.path)

        def move(state, step):
            s, t, key_step = step
            x_0, z_hat = predictions(field, state, s, cond)
            back = path.alpha(s) / path.alpha(t) * path.sigma(t) / path.sigma(s)
            fresh = self.randomness * jnp.sqrt(jnp.maximum(1 - back**2, 0.0))  # c / sigma_t
            noise = jnp.sqrt(1 - fresh**2) * z_hat + fresh * path.noise(key_step, state.shape)
            return path.interpolate(x_0, noise, t), None

        keys = jr.split(key, len(times) - 1)
        x, _ = jax.lax.scan(move, x, (times[:-1], times[1:], keys))
        return Solution(x, jnp.asarray(len(times) - 1))

    def draws_noise(self, steps: int) -> bool:
        del steps
        return self.randomness > 0


class DpmPlusPlus(Sampler[VelocityField]):
    """DPM-Solver++(2M): order 2 for one evaluation a step, by the last two clean predictions.

        x_t = sigma_t / sigma_s x_s + (alpha_t - alpha_s sigma_t / sigma_s) D,
        D = x_0(x_s) + h_i / (2 h_{i-1}) (x_0(x_s) - x_0 of the step before),

    `h_i` the step in `log(alpha / sigma)`. The first step has no predecessor and is DDIM's. So are
    steps next to an end at which the logarithm is infinite: the data end, and the step after pure
    noise. Source: arXiv 2211.01095, algorithm 2.
    """

    needs: ClassVar[Need] = "velocity"
    preview: ClassVar[int] = 8

    def __call__(
        self,
        field: VelocityField,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        del key
        path = gaussian(field.path)

        def move(carry, step):
            state, before = carry
            s, t, weight = step
            v = field.velocity(state, s, cond)
            x_0 = convert(path, v, state, s, source="velocity", target="x_0")
            D = x_0 + weight * (x_0 - before)
            ratio = path.sigma(t) / path.sigma(s)
            return (ratio * state + (path.alpha(t) - path.alpha(s) * ratio) * D, x_0), None

        log_snr = jax.vmap(path.log_snr)(times)
        h = log_snr[1:] - log_snr[:-1]
        weights = jnp.concatenate([jnp.zeros_like(h[:1]), h[1:] / (2 * h[:-1])])
        weights = jnp.where(jnp.isfinite(weights), weights, 0.0)
        (x, _), _ = jax.lax.scan(move, (x, jnp.zeros_like(x)), (times[:-1], times[1:], weights))
        return Solution(x, jnp.asarray(len(times) - 1))

    def draws_noise(self, steps: int) -> bool:
        del steps
        return False


def predictions(
    field: VelocityField, x: Float[Array, "*shape"], t: Time, cond: Condition | None
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`(E[x_0 | x_t], E[z | x_t])` from one evaluation of the velocity; finite at both ends."""
    v = field.velocity(x, jnp.asarray(t), cond)
    path = gaussian(field.path)
    x_0 = convert(path, v, x, t, source="velocity", target="x_0")
    return x_0, convert(path, v, x, t, source="velocity", target="noise")
