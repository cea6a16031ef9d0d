"""The interface of networks for flow maps, and EDM's preconditioning."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.flow.path import Path
from core.overriding import overridable

Callee = Callable[..., Float[Array, "*shape"]]
"""Any function `N(x, s, t, cond)`. Maps take one as it is: it has none of a `Network`'s extras."""


@dataclass(frozen=True)
class Asked:
    """What a map takes from its network: the output that goes with its `form` on a `path`, for
    data of deviation `data_std`, where the form has one."""

    form: Literal["average", "rotation", "endpoint", "denoised"]
    path: Interpolant
    data_std: float = 1.0


class Network(eqx.Module):
    """`N(x, s, t, cond)` of one example, both times in unit time (0 data, 1 noise).

    Only the call must be given. A network that can do more says so by the properties, and gives the
    method that goes with each; what a plain network answers follows from its call.
    """

    @abc.abstractmethod
    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        """An array of the shape of `x`."""

    @property
    @overridable
    def has_head(self) -> bool:
        """Whether `with_head` reads an auxiliary velocity head."""
        return False

    @property
    @overridable
    def decoupled(self) -> bool:
        """Whether `encode` computes anything that `decode` need not compute again."""
        return False

    @property
    @overridable
    def takes_guidance(self) -> bool:
        """Whether the guidance `(w, a, b)` of a condition is an input."""
        return False

    @property
    @overridable
    def last_weight(self) -> Any:
        """The weight of the layer that makes the output, an array, also inside `eqx.tree_at`; None
        where it is not known."""
        return None

    @overridable
    def suited(self, asked: Asked) -> "Network":
        """The network whose output is what a map asks for. Most are trained for the map that they
        are put into; a published one says what its output is, and is converted here."""
        del asked
        return self

    @overridable
    def with_head(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """`(N(x, s, t), v(x, s))`, `v` from the head, or `N(x, s, s)` without one."""
        return self(x, s, t, cond), self(x, s, s, cond)

    @overridable
    def encode(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Any:
        """The encoding of `(x, s, cond)` for `decode`: one encoding serves every target time."""
        return x, s, cond

    @overridable
    def decode(self, encoding: Any, t: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`N(x, s, t, cond)` from the encoding of `(x, s, cond)`."""
        x, s, cond = encoding
        return self(x, s, t, cond)


class PlainNetwork(Network):
    """Any function `N(x, s, t, cond)` as a network."""

    call: Callee

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return self.call(x, s, t, cond)


def as_network(net: Callee) -> Network:
    """The network itself, or a `PlainNetwork` of any other function."""
    return net if isinstance(net, Network) else PlainNetwork(net)


def suited(net: Callee, asked: Asked) -> Callee:
    """The network as a map asks for it; other functions as they are."""
    return net.suited(asked) if isinstance(net, Network) else net


class DenoisedNetwork(Network):
    """EDM preconditioning of a network, so that it predicts the clean image on any path.

        g(x, s, t) = c_skip x + c_out N(c_in x, s, t)

    with EDM's coefficients at the noise-to-signal ratio of time `s`, written without a division
    by alpha: `c_skip = d^2 alpha / q`, `c_out = sigma d / sqrt(q)`, `c_in = 1 / sqrt(q)`,
    `q = sigma^2 n^2 + d^2 alpha^2` (n the noise's standard deviation, d = `data_std`). Put it
    inside an `EndpointMap`. Source: EDM (arXiv 2206.00364), table 1.
    """

    net: Callee
    path: Path
    data_std: float = eqx.field(static=True, default=0.5)

    def __post_init__(self):
        self.net = suited(self.net, Asked("denoised", self.path, self.data_std))

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        time = self.path.time_of_unit(s)
        alpha, sigma = self.path.alpha(time), self.path.sigma(time) * self.path.noise_std
        d = self.data_std
        q = sigma**2 + (d * alpha) ** 2
        N = self.net(x / jnp.sqrt(q), s, t, cond)
        return d**2 * alpha / q * x + sigma * d / jnp.sqrt(q) * N

    @property
    def takes_guidance(self) -> bool:
        return as_network(self.net).takes_guidance

    @property
    def last_weight(self) -> Any:
        return as_network(self.net).last_weight
