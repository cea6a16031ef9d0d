"""Samplers that jump: along the grid, to the data and back, and between the two."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import Path, gaussian
from core.flow.solve import Solution
from core.sampling.sampler import Need, Nodes, Sampler


class Pushforward(Sampler[FlowMap]):
    """`x_{i+1} = F(x_i, t_i, t_{i+1})`: deterministic jumps along the grid, one a step."""

    needs: ClassVar[Need] = "jumps"

    def __call__(
        self,
        field: FlowMap,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        del key
        space = field.path.space

        def jump(state, pair):
            return space.project(field(state, pair[0], pair[1], cond)), None

        x, _ = jax.lax.scan(jump, x, (times[:-1], times[1:]))
        return Solution(x, jnp.asarray(len(times) - 1))

    def draws_noise(self, steps: int) -> bool:
        del steps
        return False


class Restart(Sampler[FlowMap]):
    """Jump to the data, renoise to the next time, and again: consistency-model sampling.

        x_0 = F(x_i, t_i, t_min),      x_{i+1} = alpha x_0 + sigma z   with fresh z at `t_{i+1}`.

    Where `t_min > 0` the jump lands at `t_min`, and the noise added is the rest up to the next
    time's marginal. Needs jumps to the data only. With a learned map the errors of many
    restarts add up: two to four are usual. Source: arXiv 2303.01469, algorithm 1.
    """

    needs: ClassVar[Need] = "ends"

    def __call__(
        self,
        field: FlowMap,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        path, end = field.path, times[-1]

        def jump(state, step):
            time, following, key_step = step
            landed = path.space.project(field(state, time, end, cond))
            return renoise(path, landed, end, following, key_step), None

        keys = jr.split(key, len(times) - 1)
        x, _ = jax.lax.scan(jump, x, (times[:-1], times[1:], keys))
        return Solution(x, jnp.asarray(len(times) - 1))

    def draws_noise(self, steps: int) -> bool:
        return steps > 1


class Gamma(Sampler[FlowMap]):
    """Jump past the next time and renoise back to it: between `Pushforward` and `Restart`.

        x_u = F(x_i, t_i, u)  with  eta(u) = sqrt(1 - gamma^2) eta(t_{i+1}),

    then noise from `u` to `t_{i+1}`, which there has the share `gamma` of the noise's standard
    deviation. `gamma = 0` is `Pushforward`, `gamma = 1` is `Restart`; the last jump ends at the
    data and adds nothing. Source: CTM (arXiv 2310.02279), its gamma-sampling, in noise-to-signal
    ratios.
    """

    needs: ClassVar[Need] = "jumps"

    gamma: float = eqx.field(static=True, default=0.5)

    def __check_init__(self):
        if not 0 <= self.gamma <= 1:
            raise UserError(f"--gamma must be between 0 and 1, got {self.gamma}")

    def __call__(
        self,
        field: FlowMap,
        x: Float[Array, "*shape"],
        times: Nodes,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Solution:
        path, end = gaussian(field.path), times[-1]
        cut = (1 - self.gamma**2) ** 0.5

        def jump(state, step):
            time, following, key_step = step
            u = jnp.clip(path.time_of_eta(cut * path.eta(following)), end, following)
            landed = field(state, time, u, cond)
            return renoise(path, landed, u, following, key_step), None

        keys = jr.split(key, len(times) - 1)
        x, _ = jax.lax.scan(jump, x, (times[:-1], times[1:], keys))
        return Solution(x, jnp.asarray(len(times) - 1))

    def draws_noise(self, steps: int) -> bool:
        return self.gamma > 0 and steps > 1


def renoise(
    path: Interpolant,
    x: Float[Array, "*shape"],
    u: Float[Array, ""],
    t: Float[Array, ""],
    key: Key[Array, ""],
    scale: float = 1.0,
) -> Float[Array, "*shape"]:
    """Carries a state from time `u` forward to a noisier time `t >= u` with fresh noise.

    `x_t = a x_u + sqrt(sigma_t^2 - a^2 sigma_u^2) z`, `a = alpha_t / alpha_u`: the marginal at
    `u` becomes the marginal at `t`. At `t = u` it is `x` itself; `alpha_u` must not be 0. A
    `scale` other than 1 multiplies the noise, and the marginal is another. On the geodesics of a
    space `u` must be the data end: the state goes towards fresh noise.
    """
    if not isinstance(path, Path):
        return path.interpolate(x, path.noise(key, x.shape), t)
    a = path.alpha(t) / path.alpha(u)
    variance = jnp.maximum(path.sigma(t) ** 2 - (a * path.sigma(u)) ** 2, 0.0)
    return a * x + scale * jnp.sqrt(variance) * path.noise(key, x.shape)
