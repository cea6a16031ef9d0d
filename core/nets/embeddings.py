"""Embedding of the conditioning of a network: two times, a label and guidance, as one vector."""

import math
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.condition import Condition
from core.nets.config import NetworkConfig
from core.nets.initial import Normal
from core.nets.layers import Dense, at_least_float32

TimeInputs = Literal["s,s-t", "s,t", "s-t"]


@dataclass(frozen=True)
class EmbeddingConfig(NetworkConfig):
    """Flags of the embedding of times, labels and guidance."""

    times: TimeInputs = "s,s-t"
    """Which times the network sees: source and step, source and target, or the step alone."""
    frequencies: int = 16
    """Number of angular frequencies of each embedded time."""
    max_frequency: float = 8.0
    """Largest angular frequency, in radians per unit time. It bounds the time derivative of the
    embedding, and with it dV/ds and dV/dt: keep it small for methods that take a derivative."""
    guidance: bool = False
    """Take guidance (w, a, b) as an input, for guidance learned in training."""
    state: bool = False
    """Take a noisy state and its time as inputs, for maps of a posterior."""

    def __post_init__(self):
        self.check_sizes(frequencies=1)
        if not 0 < self.max_frequency < math.inf:
            raise UserError(f"--net.max-frequency must be positive, got {self.max_frequency}")

    @property
    def takes_guidance(self) -> bool:
        return self.guidance

    def check_encoder(self, encoder_depth: int, depth: int) -> None:
        """Raises `UserError` unless `encoder_depth` of `depth` layers can receive `s` alone."""
        if not 0 <= encoder_depth < depth:
            raise UserError(
                f"an encoder of {encoder_depth} of {depth} layers is impossible: "
                f"--net.encoder-depth goes from 0 to {depth - 1}"
            )
        if encoder_depth and self.times == "s-t":
            raise UserError(
                "encoder and decoder each see one time and never the step s - t: "
                "with --net.encoder-depth choose --net.times s,s-t"
            )


def sinusoid(
    t: Float[Array, ""], frequencies: int, max_frequency: float
) -> Float[Array, " features"]:
    """`(cos(omega_i t), sin(omega_i t))` with `omega` geometric from 1 to `max_frequency`.

    The number is embedded as it is, without a factor of 1000 or the like; it may be negative. In
    float32 or wider. The norm is `sqrt(frequencies)` at any `t`, and that of the derivative is
    `|omega|`, so `|d sinusoid / dt| <= max_frequency sqrt(frequencies)` at any `t`.
    """
    omega = np.geomspace(1.0, max_frequency, frequencies) if frequencies > 1 else [1.0]
    angles = at_least_float32(t) * jnp.asarray(omega, jnp.promote_types(t.dtype, jnp.float32))
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])


class Embedding(eqx.Module):
    """`e = B silu(sum_i A_i sinusoid(tau_i) + a) + label row`, always in float32 (or wider).

    `tau` are the times chosen by `times`, both from smooth numbers of order one (a flow map maps
    the times of its path to such), `(1 - 1/w, a, b)` where guidance is an input, and the time of
    the observed state, where that is an input (1: there is none). The label table has
    `num_classes + 1` rows; the last stands for the null class and for no label at all.
    Inputs that the network was not built for (a label where `num_classes` is 0, guidance without
    the flag) are ignored. Stride embedding `(s, s - t)`: IMM (arXiv 2503.07565), section on
    networks.
    """

    inputs: tuple[Dense, ...]
    output: Dense
    labels: Float[Array, "rows width"] | None
    times: TimeInputs = eqx.field(static=True)
    frequencies: int = eqx.field(static=True)
    max_frequency: float = eqx.field(static=True)
    guidance: bool = eqx.field(static=True)
    state: bool = eqx.field(static=True)

    def __init__(self, width: int, num_classes: int, config: EmbeddingConfig, *, normal: Normal):
        self.times, self.guidance, self.state = config.times, config.guidance, config.state
        self.frequencies, self.max_frequency = config.frequencies, config.max_frequency
        numbers = len(self.times.split(",")) + 3 * self.guidance + self.state
        features = 2 * self.frequencies
        self.inputs = tuple(
            Dense(features, width, bias=i == 0, normal=normal) for i in range(numbers)
        )
        self.output = Dense(width, width, normal=normal)
        self.labels = 0.5 * normal(num_classes + 1, width) if num_classes else None

    def __call__(
        self, s: Float[Array, ""], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, " width"]:
        numbers = [{"s": s, "t": t, "s-t": s - t}[name] for name in self.times.split(",")]
        if self.guidance:
            numbers += guidance_numbers(cond, s)
        if self.state:
            time = None if cond is None else cond.state_time
            numbers.append(jnp.ones_like(s) if time is None else time.astype(s.dtype))
        features = [sinusoid(number, self.frequencies, self.max_frequency) for number in numbers]
        hidden = sum(dense(x) for dense, x in zip(self.inputs, features, strict=True))
        return self.output(jax.nn.silu(jnp.asarray(hidden))) + self._label(cond, s)

    def single(
        self, time: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, " width"]:
        """The embedding of one time: that of the pair `s = t = time`, whose step is zero.

        A network that is trained on the diagonal alone (flow matching) has this input. One
        embedder for the source and the target time: Decoupled MeanFlow (arXiv 2510.24474).
        """
        return self(time, time, cond)

    def beside(self, x: Float[Array, "*shape"], cond: Condition | None) -> Float[Array, "*wider"]:
        """`x`, and where the network takes a state that state as further channels (coordinates of a
        point): zeros for none."""
        if not self.state:
            return x
        state = None if cond is None else cond.state
        state = jnp.zeros_like(x) if state is None else state.astype(x.dtype)
        return jnp.concatenate([x, state], axis=-1)

    def _label(self, cond: Condition | None, s: Float[Array, ""]) -> Float[Array, "#width"]:
        if self.labels is None:
            return jnp.zeros(1, jnp.promote_types(s.dtype, jnp.float32))
        label = None if cond is None else cond.label
        return self.labels[-1 if label is None else label]


class Encoding(eqx.Module):
    """The result of a decoupled network's `encode(x, s, cond)`, for `decode(encoding, t)`.

    **Fields:**

    - `h`: the activations behind the encoder's layers, (tokens, width) or (width,), in the compute
      dtype.
    - `cond`: label and guidance, which the decoder receives again.
    - `like`: shape and dtype of `x`, and so of the output.
    """

    h: Float[Array, "*tokens width"]
    cond: Condition | None
    like: jax.ShapeDtypeStruct = eqx.field(static=True)


def guidance_numbers(cond: Condition | None, like: Float[Array, ""]) -> list[Float[Array, ""]]:
    """`[1 - 1/w, a, b]`, all in [0, 1]; no guidance is `w = 1` on the interval [0, 1]."""
    guidance = None if cond is None else cond.guidance
    w, a, b = jnp.asarray([1.0, 0.0, 1.0], like.dtype) if guidance is None else guidance
    return [1 - 1 / w, a, b]
