"""Flow maps of tokens: the endpoint is a softmax.

Data are one-hot rows `e` (length, symbols) on the linear path `x_t = (1 - t) e + t z`. With logits
`zeta(x, s, t)` of the network and `psi = softmax(zeta)`, one probability vector a position,

    F(x, s, t) = t / s x + (1 - t / s) psi(x, s, t),      V = (x - psi) / s.

The exact `psi` is a mean of `E[e | x_tau]` along the trajectory, even in `1 / tau`, so it is always
a probability vector; `psi(x, t, t) = E[e | x_t = x]` and `F(x, s, 0) = psi(x, s, 0)`. Source:
Categorical Flow Maps (arXiv 2602.12233), Discrete Flow Maps (arXiv 2604.09784).
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.network import Callee
from core.flow.path import LinearPath, Path

MIN_SOURCE = 1e-3
"""Floor of `s` in the quotient `1 / s` of the velocity, and there alone."""

Clock = Callable[[Float[Array, ""], int], Float[Array, ""]]
"""The time that a network receives, of a unit time and the number of symbols."""


class TokenMap(FlowMap):
    """A flow map by the logits of its endpoint. A subclass gives `path` and `logits`."""

    @abc.abstractmethod
    def logits(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        """`zeta(x_s, s, t)`, in float32 at least; a constant added to a position means nothing."""

    def endpoint(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        """`psi(x_s, s, t)`, a probability vector a position; at `s = t` the denoiser."""
        return jax.nn.softmax(self.logits(x, s, t, cond))

    def average_velocity(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        return towards(x, s, self.endpoint(x, s, t, cond))


def towards(
    x: Float[Array, "length symbols"], s: Float[Array, ""], psi: Float[Array, "length symbols"]
) -> Float[Array, "length symbols"]:
    """The average velocity `(x - psi) / s` of an endpoint `psi`, with `s` floored at 1e-3."""
    return (x - psi) / jnp.maximum(s, MIN_SOURCE)


class CategoricalMap(TokenMap):
    """The network's output is the logits: `zeta(x, s, t) = N(x, s, t)`.

    `clock(time, symbols)` is the time that the network receives, `core.times.Warp` for one; without
    it, unit time. `scaled`: the network receives `x / sqrt(((1 - s)^2 + K s^2) / K)` for `K`
    symbols, which has mean square 1. Raises `UserError` on another path than the linear one.
    """

    net: Callee
    path: Path
    clock: Clock | None = None
    scaled: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if not isinstance(self.path, LinearPath):
            raise UserError("a map of tokens is one of the linear path: --path linear")

    def logits(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        symbols = x.shape[-1]
        if self.scaled:
            x = x / jnp.sqrt((1 - s) ** 2 / symbols + (s * self.path.noise_std) ** 2)
        output = self.net(x, self._clocked(s, symbols), self._clocked(t, symbols), cond)
        return output.astype(jnp.promote_types(output.dtype, jnp.float32))

    def _clocked(self, time: Float[Array, ""], symbols: int) -> Float[Array, ""]:
        unit = self.path.unit_time(time)
        return unit if self.clock is None else self.clock(unit, symbols)


def of_tokens(model: FlowMap) -> TokenMap:
    """The map itself. Raises `UserError` where it is none of tokens."""
    if not isinstance(model, TokenMap):
        raise UserError("this method trains the logits of tokens: it needs data of tokens")
    return model
