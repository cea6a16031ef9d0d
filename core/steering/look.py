"""Look-aheads: the clean example that a noisy state is judged by.

None is exact: the value of a state is `log E[exp(lambda r(x_0)) | x_t]`. Weights correct for that;
gradients without weights do not.
"""

import abc
from typing import ClassVar

import equinox as eqx
from jaxtyping import Array, Float

from core.condition import Condition
from core.conversions import convert
from core.flow_map import FlowMap


class LookAhead(eqx.Module):
    """From a state `x` at time `t` to a clean example."""

    evaluations: ClassVar[int] = 1

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

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        v = flow_map.velocity(x, t, cond)
        return convert(flow_map.path, v, x, t, source="velocity", target="x_0")


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
