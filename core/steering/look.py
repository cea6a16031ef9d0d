"""Look-aheads: the clean examples on which a noisy state's reward is evaluated.

The value of a state is `log E[exp(lambda r(x_0)) | x_t]`. A single example is never exact, draws
from the posterior are as they grow in number. Weights correct for that; gradients without weights
do not.
"""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import pick, require
from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.steering.glass import posterior_draw
from core.steering.steering import Evaluations, Tilt
from core.steering.weights import log_mean


class LookAhead(eqx.Module):
    """From a state `x` at time `t` to a clean example."""

    evaluations: ClassVar[int] = 1
    of_velocity: ClassVar[bool] = False
    """Whether it evaluates the velocity, not the map."""

    def cost(self) -> Evaluations:
        """The cost of the reward of one look-ahead."""
        if self.of_velocity:
            return Evaluations(0, velocity=self.evaluations)
        return Evaluations(self.evaluations)

    @abc.abstractmethod
    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        """The clean example."""


class Naive(LookAhead):
    """The state itself."""

    evaluations: ClassVar[int] = 0

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        del flow_map, t, cond
        return x


class Tweedie(LookAhead):
    """The denoiser `E[x_0 | x_t = x]`, from the velocity."""

    of_velocity: ClassVar[bool] = True

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        v = flow_map.velocity(x, t, cond)
        return convert(gaussian(flow_map.path), v, x, t, source="velocity", target="x_0")


class Jump(LookAhead):
    """The flow map: `F(x, t, 0)`."""

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return flow_map(x, t, _end(flow_map, x), cond)


def _end(flow_map: FlowMap, x: Array) -> Float[Array, ""]:
    return flow_map.path.time_of_unit(0.0).astype(x.dtype)


LOOKS: dict[str, LookAhead] = {"map": Jump(), "tweedie": Tweedie(), "naive": Naive()}


def slope_cost(name: str) -> Evaluations:
    """The cost of a state's velocity, the look-ahead's reward and its gradient together; the
    denoiser has the velocity in it."""
    look = LOOKS[name]
    return look.cost().with_gradient() + Evaluations(
        0, reward=0, velocity=int(not look.of_velocity)
    )


class Posterior(eqx.Module):
    """Draws `z_j ~ p(x_0 | x_t = x)` by an inner flow of the velocity, see `core.steering.glass`.

    **Fields:** `draws`, how many; `inner`, evaluations of each.
    """

    draws: int = eqx.field(static=True, default=4)
    inner: int = eqx.field(static=True, default=8)
    of_velocity: ClassVar[bool] = True

    def cost(self) -> Evaluations:
        """The cost of the reward of one look-ahead."""
        return Evaluations(0, velocity=self.draws * self.inner, reward=self.draws)

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        cond: Condition | None = None,
        *,
        key: Key[Array, ""],
    ) -> Float[Array, " draws *shape"]:
        keys = jr.split(key, self.draws)
        return jax.vmap(lambda k: posterior_draw(flow_map, x, t, k, cond, self.inner))(keys)


Look = LookAhead | Posterior


def make_look(name: str, draws: int = 4, inner: int = 8) -> Look:
    """The look-ahead of that name: one of `LOOKS`, or "posterior" with its settings.

    Raises `UserError` for another name, with the nearest, and for settings below 1.
    """
    require(min(draws, inner) >= 1, f"draws and inner must be at least 1, got {draws}, {inner}")
    return pick({**LOOKS, "posterior": Posterior(draws, inner)}, name, "look-ahead")


def look_ahead(
    look: Look, tilt: Tilt, x: Float[Array, "*shape"], t: Float[Array, ""], key: Key[Array, ""]
) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
    """The clean example (of draws, their mean) and the value: `lambda r` of it, or of draws
    `log mean_j exp(lambda r(z_j))`."""
    if isinstance(look, Posterior):
        z = look(tilt.flow_map, x, t, tilt.cond, key=key)
        return jnp.mean(z, axis=0), log_mean(jax.vmap(tilt.log_tilt)(z))
    ahead = look(tilt.flow_map, x, t, tilt.cond)
    return ahead, tilt.log_tilt(ahead)
