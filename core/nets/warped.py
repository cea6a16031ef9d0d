"""A network that receives its times on another scale."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.network import Callee
from core.nets.scaled import Around


class WarpedTimes(Around):
    """`N(x, c(s), c(t))` with `c(s) = (e^(rate s) - 1) / (e^rate - 1)`, from 0 to 1.

    Steps proportional to `e^(-rate s)` are equally long on this scale. Source: "A Guide to Training
    Consistency Models", section 3.2 and appendix C, which divides by `rate` instead: there `c` goes
    up to 9.2 and is embedded with frequencies up to 1. Here embeddings expect times up to 1, and
    their frequencies go up to 8; a larger scale makes the derivative in time explode.
    """

    net: Callee
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
        return jnp.expm1(self.rate * time) / jnp.expm1(self.rate)
