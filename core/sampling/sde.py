"""Stochastic samplers: noise is added on the way, and the marginals do not change."""

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
from core.flow.path import gaussian
from core.flow.solve import Solution
from core.sampling.jumps import renoise
from core.sampling.sampler import Need, Nodes, Sampler


class HeunChurn(Sampler[VelocityField]):
    """EDM's stochastic sampler: back to more noise, then a Heun step, in the path's own time.

    At step `i` of `N` the noise level `eta noise_std` rises by the factor `1 + g`, with
    `g = min(churn / N, sqrt(2) - 1)` for levels in `[churn_min, churn_max]` and 0 outside. The
    noise added has `churn_noise` times the standard deviation that keeps the marginals. The last
    step is Euler's, so `N` steps take `2 N - 1` evaluations. `churn = 0` is EDM's deterministic
    sampler. The levels are EDM's, for data of standard deviation 0.5. Source: arXiv 2206.00364,
    algorithm 2, where 40, 0.05, 50 and 1.003 are used with 256 steps on ImageNet.
    """

    needs: ClassVar[Need] = "velocity"
    preview: ClassVar[int] = 15

    churn: float = eqx.field(static=True, default=40.0)
    churn_min: float = eqx.field(static=True, default=0.05)
    churn_max: float = eqx.field(static=True, default=50.0)
    churn_noise: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not 0 <= self.churn < float("inf"):
            raise UserError(f"--churn must not be negative, got {self.churn}")
        if not 0 <= self.churn_min <= self.churn_max:
            raise UserError("--churn-min and --churn-max must be 0 <= min <= max")
        if not 0 <= self.churn_noise < float("inf"):
            raise UserError(f"--churn-noise must not be negative, got {self.churn_noise}")

    def __call__(
        self,
        field: VelocityField,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        steps = len(times) - 1

        def stir(state, s, key_step):
            return self._stir(field, state, s, min(self.churn / steps, 2**0.5 - 1), key_step)

        def heun(state, step):
            s, t, key_step = step
            state, s = stir(state, s, key_step)
            v = field.velocity(state, s, cond)
            ahead = field.velocity(state + (t - s) * v, t, cond)
            return state + (t - s) * (v + ahead) / 2, None

        keys = jr.split(key, steps)
        x, _ = jax.lax.scan(heun, x, (times[:-2], times[1:-1], keys[:-1]))
        x, s = stir(x, times[-2], keys[-1])
        x = x + (times[-1] - s) * field.velocity(x, s, cond)
        return Solution(x, jnp.asarray(2 * steps - 1))

    def _stir(
        self,
        field: VelocityField,
        x: Float[Array, "*shape"],
        s: Array,
        g: float,
        key: Key[Array, ""],
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        """The state at a noise level `1 + g` times that of `s`, and its time."""
        path = gaussian(field.path)
        level = path.noise_std * path.eta(s)
        inside = (level >= self.churn_min) & (level <= self.churn_max) & jnp.isfinite(level)
        raised = path.time_of_eta((1 + g) * jnp.where(inside, path.eta(s), 1.0))
        u = jnp.where(inside, jnp.clip(raised, s, path.t_max), s)
        return jnp.where(inside, renoise(path, x, s, u, key, self.churn_noise), x), u

    def draws_noise(self, steps: int) -> bool:
        del steps
        return self.churn > 0

    def steps(self, nfe: int) -> int:
        if nfe % 2 == 0:
            raise UserError(
                f"churn takes 2 evaluations a step and 1 for the last, so {nfe} is not possible; "
                "use an odd number"
            )
        return (nfe + 1) // 2


class EulerMaruyama(Sampler[VelocityField]):
    """Euler steps of a stochastic process with the same marginals as the ODE.

        x <- x - dt (v - w / 2 score) + sqrt(w dt) z,      dt > 0, z ~ N(0, I),
        w = strength noise_std^2 sigma determinant.

    `w score = -strength determinant E[z | x_t]`, so nothing is divided by sigma or alpha, and both
    terms stay finite at the ends. `strength = 0` is the ODE; 2 makes `w = alpha g^2`, with
    `g^2` that of the reverse diffusion (Song et al., arXiv 2011.13456, eq. 6). The last step is the
    ODE's. It wants many steps. Source: SiT (arXiv 2401.08740), where `w` is chosen freely, among
    others proportional to sigma.
    """

    needs: ClassVar[Need] = "velocity"
    preview: ClassVar[int] = 32

    strength: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        if not 0 <= self.strength < float("inf"):
            raise UserError(f"--strength must not be negative, got {self.strength}")

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
            v = field.velocity(state, s, cond)
            z_hat = convert(path, v, state, s, source="velocity", target="noise")
            pull = self.strength * path.determinant(s)
            spread = jnp.sqrt(pull * path.sigma(s) * (s - t))
            drift = v + pull / 2 * z_hat
            return state + (t - s) * drift + spread * path.noise(key_step, state.shape), None

        keys = jr.split(key, len(times) - 1)[:-1]
        x, _ = jax.lax.scan(move, x, (times[:-2], times[1:-1], keys))
        x = x + (times[-1] - times[-2]) * field.velocity(x, times[-2], cond)
        return Solution(x, jnp.asarray(len(times) - 1))

    def draws_noise(self, steps: int) -> bool:
        return self.strength > 0 and steps > 1
