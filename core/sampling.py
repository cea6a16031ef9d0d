"""Samplers: from noise to data with a flow map, in a chosen number of evaluations.

A sampler sees a map only through `F(x, s, t)` and `v(x, t)`, so every sampler works with every
parameterisation that allows it. Time grids decrease from noise to data and are plain data: a new
grid of the same length compiles nothing anew.
"""

import abc
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.condition import Condition
from core.errors import UserError
from core.flow_map import FlowMap
from core.path import Path
from core.solve import solve_grid

Grid = Float[Array, " nodes"]


def uniform_grid(path: Path, steps: int) -> Float[np.ndarray, " nodes"]:
    """`steps + 1` decreasing times from `t_max` to `t_min`, equally spaced in the path's time."""
    return np.linspace(path.t_max, path.t_min, steps + 1)


class Sampler(eqx.Module):
    """Moves one example from the first time of a grid to the last."""

    two_times: ClassVar[bool]
    """Whether it asks for jumps that end before the data."""
    preview: ClassVar[int] = 1
    """Evaluations with which it gives a first impression."""

    @abc.abstractmethod
    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        grid: Grid,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        """The state at `grid[-1]`, from `x` at `grid[0]`."""

    @abc.abstractmethod
    def steps(self, nfe: int) -> int:
        """The number of grid steps that use `nfe` network evaluations.

        Raises `UserError` where no number of steps does.
        """


class Pushforward(Sampler):
    """`x_{i+1} = F(x_i, t_i, t_{i+1})`: deterministic jumps along the grid, one a step."""

    two_times: ClassVar[bool] = True

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        grid: Grid,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        del key

        def jump(state, times):
            return flow_map(state, times[0], times[1], cond), None

        return jax.lax.scan(jump, x, (grid[:-1], grid[1:]))[0]

    def steps(self, nfe: int) -> int:
        return nfe


class Restart(Sampler):
    """Jump to the data, renoise to the next time, and again: consistency-model sampling.

        x_0 = F(x_i, t_i, t_min),      x_{i+1} = alpha x_0 + sigma z   with fresh z at `t_{i+1}`.

    Where `t_min > 0` the jump lands at `t_min`, and the noise added is what is missing to the
    next time's marginal. Needs jumps to the data only. With a learned map the errors of many
    restarts add up: two to four are usual. Source: arXiv 2303.01469, algorithm 1.
    """

    two_times: ClassVar[bool] = False

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        grid: Grid,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        path, end = flow_map.path, grid[-1]

        def jump(state, step):
            time, following, step_key = step
            landed = flow_map(state, time, end, cond)
            return renoise(path, landed, end, following, step_key), None

        keys = jr.split(key, len(grid) - 1)
        x, _ = jax.lax.scan(jump, x, (grid[:-1], grid[1:], keys))
        return x

    def steps(self, nfe: int) -> int:
        return nfe


_EVALUATIONS = {"euler": 1, "heun": 2}


class Ode(Sampler):
    """Steps of the ODE `dx/dt = v(x, t)` along the grid, on the diagonal of the map, by Diffrax.

    Shows how good the velocity is, apart from the map. `solver` is "euler" (one evaluation a
    step) or "heun" (two).
    """

    two_times: ClassVar[bool] = True
    preview: ClassVar[int] = 8

    solver: str = eqx.field(static=True, default="euler")

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        grid: Grid,
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        del key
        return solve_grid(lambda y, u: flow_map.velocity(y, u, cond), x, grid, solver=self.solver).x

    def steps(self, nfe: int) -> int:
        each = _EVALUATIONS[self.solver]
        if nfe % each:
            raise UserError(
                f"{self.solver} takes {each} evaluations a step, so {nfe} is not possible; "
                f"use a multiple of {each}, or --sampler euler"
            )
        return nfe // each


SAMPLERS: dict[str, Sampler] = {
    "pushforward": Pushforward(),
    "restart": Restart(),
    "euler": Ode("euler"),
    "heun": Ode("heun"),
}


def renoise(
    path: Path,
    x: Float[Array, "*shape"],
    u: Float[Array, ""],
    t: Float[Array, ""],
    key: Key[Array, ""],
) -> Float[Array, "*shape"]:
    """Carries a state from time `u` forward to a noisier time `t >= u` with fresh noise.

    `x_t = a x_u + sqrt(sigma_t^2 - a^2 sigma_u^2) z`, `a = alpha_t / alpha_u`: the marginal at
    `u` becomes the marginal at `t`. At `t = u` it is `x` itself.
    """
    a = path.alpha(t) / path.alpha(u)
    variance = jnp.maximum(path.sigma(t) ** 2 - (a * path.sigma(u)) ** 2, 0.0)
    return a * x + jnp.sqrt(variance) * path.noise(key, x.shape)


def check_sampler(name: str, sampler: Sampler, flow_map: FlowMap) -> None:
    """Raises `UserError` where the map cannot do what the sampler asks."""
    if sampler.two_times and not flow_map.two_times:
        raise UserError(
            f"the sampler {name!r} jumps to times before the data end, which this model cannot do; "
            "use --sampler restart"
        )


def generate(
    flow_map: FlowMap,
    sampler: Sampler,
    grid: Float[np.ndarray, " nodes"],
    shape: tuple[int, ...],
    labels: Int[np.ndarray, " n"] | int,
    *,
    key: Key[Array, ""],
    batch: int = 256,
    progress: Callable[[int], None] | None = None,
) -> Float[np.ndarray, " n *shape"]:
    """Samples from noise, in full batches, so that one program serves any number of samples.

    **Arguments:** `labels` one a sample, or the number of unconditional samples; `grid` decreasing
    times; `progress` is called with the number of samples after each batch.
    """
    n = labels if isinstance(labels, int) else len(labels)
    parts = []
    for i, start in enumerate(range(0, n, batch)):
        count = min(batch, n - start)
        index = np.minimum(np.arange(start, start + batch), n - 1)
        label = None if isinstance(labels, int) else jnp.asarray(labels)[index]
        keys = jr.split(jr.fold_in(key, i), batch)
        out = _generate_batch(flow_map, sampler, jnp.asarray(grid), shape, label, keys)
        parts.append(np.asarray(out)[:count])
        if progress is not None:
            progress(count)
    return np.concatenate(parts)


@eqx.filter_jit
def _generate_batch(flow_map, sampler, grid, shape, label, keys):
    def one(key, label):
        key_prior, key_sampler = jr.split(key)
        cond = None if label is None else Condition(label=label)
        x = flow_map.path.prior(key_prior, shape)
        return sampler(flow_map, x, grid, cond, key=key_sampler)

    return jax.vmap(one)(keys, label)
