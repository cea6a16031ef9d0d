"""A network that is told its times on another scale."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.condition import Condition
from core.flow_map import Network


class WarpedTimes(eqx.Module):
    """`N(x, c(s), c(t))` with `c(s) = (e^(rate s) - 1) / rate`, so that `c(s) / s -> 1` at 0.

    Steps proportional to `e^(-rate s)` are equally long on this scale. Source: "A Guide to Training
    Consistency Models", section 3.2 and appendix C (the main text prints the constant elsewhere).
    """

    net: Network
    rate: float = eqx.field(static=True, default=3.5)

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return self.net(x, self._scale(s), self._scale(t), cond)

    def _scale(self, time: Float[Array, ""]) -> Float[Array, ""]:
        return jnp.expm1(self.rate * time) / self.rate
