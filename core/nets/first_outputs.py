"""A network of which the first numbers of the output count."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.network import Network


class FirstOutputs(Network):
    """The first `size` numbers of a network's output, of shape `(*factors, size)`.

    For spaces whose points are seen by more numbers than a tangent vector has: a network answers in
    the shape of what it sees, and the numbers after the first are left.
    """

    net: Network
    size: int = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "..."],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "..."]:
        return self.net(x, s, t, cond)[..., : self.size]

    @property
    def has_head(self) -> bool:
        return self.net.has_head

    @property
    def decoupled(self) -> bool:
        return self.net.decoupled

    @property
    def takes_guidance(self) -> bool:
        return self.net.takes_guidance

    @property
    def last_weight(self) -> Any:
        return self.net.last_weight

    def with_head(
        self,
        x: Float[Array, "..."],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        V, v = self.net.with_head(x, s, t, cond)
        return V[..., : self.size], v[..., : self.size]

    def encode(
        self, x: Float[Array, "..."], s: Float[Array, ""], cond: Condition | None = None
    ) -> Any:
        return self.net.encode(x, s, cond)

    def decode(self, encoding: Any, t: Float[Array, ""]) -> Float[Array, "..."]:
        return self.net.decode(encoding, t)[..., : self.size]
