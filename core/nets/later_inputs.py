"""Inputs that a trained network receives afterwards: a second time, and guidance.

Published diffusion networks see one time. As a flow map's network one needs the target time too,

    e' = e(s) + Z silu(A phi(s - t) + a),        Z = 0 at the start,

with `e` its conditioning vector and `phi` the sinusoid of `core.nets.embeddings`, whose derivative
is bounded. So `N(x, s, t) = N(x, s)` before the first step: the diagonal is the trained network's.
Guidance `(w, a, b)` enters in the same way.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.nets.config import NetworkConfig
from core.nets.embeddings import guidance_numbers, sinusoid
from core.nets.initial import Normal
from core.nets.layers import Dense
from core.overriding import overridable

FREQUENCIES = 16
MAX_FREQUENCY = 8.0
"""Of `phi`: the defaults of our own networks."""
Predicts = Literal["plain", "linear-velocity", "cosine-velocity", "noise", "x_0", "v", "edm"]
Later = Callable[[Float[Array, " embed"]], Float[Array, " embed"]]
"""From a conditioning vector to that with the later inputs."""


def unchanged(e: Float[Array, " embed"]) -> Float[Array, " embed"]:
    """The vector itself."""
    return e


@dataclass(frozen=True)
class PublishedConfig(NetworkConfig):
    """Flags of published networks that say what they are in a flow map."""

    predicts: Predicts = "plain"
    """What the output is: plain (what the map takes as it is), the velocity of the linear or the
    cosine path, noise, x_0 or v of discrete diffusion, or edm (behind EDM's preconditioning)."""
    second_time: bool = False
    """See the step s - t as well, through an embedding that is zero at the start: for a network of
    one time that becomes a flow map."""
    guidance: bool = False
    """Take guidance (w, a, b) as an input, through an embedding that is zero at the start."""

    @property
    def takes_guidance(self) -> bool:
        return self.guidance

    @overridable
    def as_student(self, predicts: str) -> Self:
        changes: dict[str, Any] = {"predicts": predicts, "second_time": True}
        return replace(self, **changes)


class LaterInput(eqx.Module):
    """Adds numbers to a conditioning vector, and at the start zero: the network without its weights
    is the same one (`core.methods.warm_start`)."""

    @abc.abstractmethod
    def __call__(
        self, e: Float[Array, " embed"], numbers: Sequence[Float[Array, ""]]
    ) -> Float[Array, " embed"]:
        """The conditioning vector with the numbers."""


class ZeroStart(LaterInput):
    """`e + Z silu(sum_i A_i phi(number_i) + a)`, `Z = 0` at the start; in float32 or wider."""

    inputs: tuple[Dense, ...]
    output: Dense

    def __init__(self, width: int, numbers: int, *, normal: Normal):
        self.inputs = tuple(
            Dense(2 * FREQUENCIES, width, bias=i == 0, normal=normal) for i in range(numbers)
        )
        self.output = Dense(width, width, bias=False, scale=0.0, normal=normal)

    def __call__(
        self, e: Float[Array, " embed"], numbers: Sequence[Float[Array, ""]]
    ) -> Float[Array, " embed"]:
        given = (sinusoid(number, FREQUENCIES, MAX_FREQUENCY) for number in numbers)
        hidden = sum(dense(x) for dense, x in zip(self.inputs, given, strict=True))
        return e + self.output(jax.nn.silu(jnp.asarray(hidden)))


class LaterInputs(eqx.Module):
    """The inputs that a configuration asks for; without any the vector stays as it is."""

    step: LaterInput | None
    guidance: LaterInput | None

    def __init__(
        self,
        width: int,
        config: PublishedConfig,
        kind: Callable[..., LaterInput] = ZeroStart,
        *,
        normal: Normal,
    ):
        """`kind(width, numbers, normal=normal)` makes one of them."""
        self.step = kind(width, 1, normal=normal) if config.second_time else None
        self.guidance = kind(width, 3, normal=normal) if config.guidance else None

    def __call__(
        self,
        e: Float[Array, " embed"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, " embed"]:
        """The conditioning vector `e` with these inputs; `s` and `t` in unit time."""
        if self.step is not None:
            e = self.step(e, [s - t])
        return e if self.guidance is None else self.guidance(e, guidance_numbers(cond, s))
