"""Networks whose inputs and outputs are scaled."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.network import Asked, Callee, Network, as_network
from core.flow.path import Path


class Around(Network):
    """A network around another, with that one's abilities; a published network stands by itself,
    since it has scales of its own."""

    net: eqx.AbstractVar[Callee]

    def suited(self, asked: Asked) -> Network:
        inner = as_network(self.net)
        own = inner.suited(asked)
        return self if own is inner else own

    @property
    def takes_guidance(self) -> bool:
        return as_network(self.net).takes_guidance

    @property
    def last_weight(self) -> Any:
        return as_network(self.net).last_weight


class ScaledNetwork(Around):
    """`c_out N(c_in x, s, t)`, so that the network gets and gives numbers of size 1.

        c_in  = 1 / sqrt(alpha^2 d^2 + sigma^2 n^2),   c_out = sqrt(alpha'^2 d^2 + sigma'^2 n^2)

    at the source time, `d` and `n` the standard deviations of data and noise: those of the state
    and of the pair's velocity. Source: "A Guide to Training Consistency Models", where both are
    equal; on the linear path `c_out` is then `d sqrt(2)`.
    """

    net: Callee
    path: Path
    data_std: float = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        path, time, d = self.path, self.path.time_of_unit(s), self.data_std
        size = jnp.hypot(path.alpha(time) * d, path.sigma(time) * path.noise_std)
        speed = jnp.hypot(path.d_alpha(time) * d, path.d_sigma(time) * path.noise_std)
        return speed * self.net(x / size, s, t, cond)


class GuidanceScaled(Around):
    """`w N(x, s, t)`, `w` the guidance scale: `scale`, or where that is None the condition's own, 1
    without one.

    Guided velocities grow with `w`, and the network's output need not. Source: TVM (arXiv
    2511.19797), section 4.
    """

    net: Callee
    scale: float | None = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        scale: Any = self.scale
        if scale is None:
            scale = 1.0 if cond is None or cond.guidance is None else cond.guidance[0]
        return scale * self.net(x, s, t, cond)
