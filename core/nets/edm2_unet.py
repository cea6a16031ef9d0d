"""EDM2's magnitude-preserving U-Net, as its checkpoints have it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.network import Asked, Network
from core.nets.convolutional import LAYOUT, Image, Resample, attend_places, resample
from core.nets.dropout import Dropout, dropout, layer_keys, thinned
from core.nets.embeddings import sinusoid
from core.nets.initial import Normal, initialise
from core.nets.later_inputs import (
    FREQUENCIES,
    MAX_FREQUENCY,
    Later,
    LaterInput,
    LaterInputs,
    unchanged,
)
from core.nets.layers import at_least_float32, rematerialise
from core.nets.levels import Block, LevelsConfig, levels
from core.nets.noise_levels import one_hot, quarter_log_sigma
from core.nets.suited import EDM_LEVELS, suited

EPSILON = 1e-4
BALANCE = 0.3
"""The share of the new part where a block adds to what it got."""
LARGEST = 256.0
"""Activations are clipped to this."""


@dataclass(frozen=True)
class EDM2UNetConfig(LevelsConfig):
    """Flags of EDM2's network, with the sizes of its smallest, for images of 64 pixels."""

    channels: int = 64
    """Channels that the multipliers multiply."""
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    """Channels of each level over `channels`; each level halves the resolution."""
    blocks: int = 3
    """Residual blocks of a level on the way down; one more on the way up."""
    attention: tuple[int, ...] = (16, 8)
    """Resolutions (heights in pixels) at which blocks have self-attention."""
    folded: bool = False
    """Weights are stored normalised and used as they are: for a frozen teacher, not to be
    trained."""

    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> "EDM2UNet":
        """The network for square images of `shape` (H, H, C). Raises `UserError` for others."""
        self.check_shape(shape)
        return initialise(lambda normal: EDM2UNet(shape, num_classes, self, normal=normal), key)

    def plan(self, height: int) -> tuple[list[Block], list[Block]]:
        """Blocks of encoder and decoder, for images of `height` pixels."""
        sizes, there = [self.channels * m for m in self.multipliers], set(self.attention)
        return levels(height, sizes[0], sizes, self.blocks, there, there)


class Weight(eqx.Module):
    """Weights of a dense layer or a convolution without a bias, normalised where they are used.

        W_eff = gain W / (|W_row| + 1e-4 sqrt(n))

    for each output's row of `n` weights: of unit norm, whatever the optimiser did.
    Kept as (out, in) or (3, 3, in, out). A `folded` one is used as it is.
    Source: EDM2 (arXiv 2312.02696), section 2.3 and appendix B.4.
    """

    weight: Float[Array, "..."]
    folded: bool = eqx.field(static=True)

    def __init__(self, size_in: int, size_out: int, *, side: int = 0, folded: bool, normal: Normal):
        self.weight = normal(*((side, side, size_in, size_out) if side else (size_out, size_in)))
        self.folded = folded

    def normalised(self, norm: float = 1.0) -> Float[Array, "..."]:
        """The weights with rows of this norm (a little less), float32 or wider."""
        wide = at_least_float32(self.weight)
        axes = (0, 1, 2) if wide.ndim == 4 else (1,)
        count = math.prod(wide.shape[axis] for axis in axes)
        size = jnp.sqrt(jnp.square(wide).sum(axes, keepdims=True))
        return wide * (norm / (size + EPSILON * math.sqrt(count)))

    def __call__(
        self, x: Float[Array, "*places in"], gain: Float[Array, ""] | None = None
    ) -> Float[Array, "*places out"]:
        weight = self.weight if self.folded else self.normalised()
        weight = (weight if gain is None else weight * gain).astype(x.dtype)
        if weight.ndim == 4:
            return jax.lax.conv_general_dilated(
                x[None], weight, (1, 1), "SAME", dimension_numbers=LAYOUT
            )[0]
        return jax.lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))


class EDM2Block(eqx.Module):
    """A magnitude-preserving residual block.

        y = conv_1(mp_silu(conv_0(mp_silu(x)) (1 + embed(e) gain)))
        x = mp_sum(x, y, 0.3),  x = mp_sum(x, proj(attention(qkv(x))), 0.3),  clipped

    In the encoder `x` is first projected by `skip` and normalised at each pixel; in the decoder
    `skip` stands before the sum alone. Queries, keys and values are normalised. Where a key is
    given, numbers before `conv_1` are dropped. Source: EDM2 (arXiv 2312.02696), figure 21 and
    appendix B.
    """

    gain: Float[Array, ""]
    conv_0: Weight
    embed: Weight
    conv_1: Weight
    skip: Weight | None
    qkv: Weight | None
    proj: Weight | None
    encodes: bool = eqx.field(static=True)
    how: Resample = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    drop_rate: float = eqx.field(static=True)

    def __init__(
        self, block: Block, embed: int, config: EDM2UNetConfig, *, encodes: bool, normal: Normal
    ):
        size_in, size_out = block.size_in, block.size_out
        how = {"folded": config.folded, "normal": normal}
        self.encodes, self.how, self.drop_rate = encodes, block.how, config.dropout
        self.heads = size_out // config.head_channels if block.attends else 0
        self.gain = jnp.zeros((), jnp.float32)
        self.conv_0 = Weight(size_out if encodes else size_in, size_out, side=3, **how)
        self.embed = Weight(embed, size_out, **how)
        self.conv_1 = Weight(size_out, size_out, side=3, **how)
        self.skip = Weight(size_in, size_out, **how) if size_in != size_out else None
        self.qkv = Weight(size_out, 3 * size_out, **how) if self.heads else None
        self.proj = Weight(size_out, size_out, **how) if self.heads else None

    def __call__(
        self, x: Image, e: Float[Array, " embed"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "h w c"]:
        x = resample(x, self.how)
        if self.encodes:
            x = unit_rms(x if self.skip is None else self.skip(x))
        y = self.conv_0(mp_silu(x))
        y = mp_silu(y * (1 + self.embed(e, self.gain))[None, None])
        y = self.conv_1(thinned(y, self.drop_rate, key))
        if not self.encodes and self.skip is not None:
            x = self.skip(x)
        x = mp_sum(x, y, BALANCE)
        if self.qkv is not None and self.proj is not None:
            x = mp_sum(x, self.proj(self._attention(self.qkv(x))), BALANCE)
        return jnp.clip(x, -LARGEST, LARGEST)

    def _attention(self, qkv: Image) -> Float[Array, "height width c"]:
        split = qkv.reshape(*qkv.shape[:2], 3, self.heads, -1)
        q, k, v = jnp.moveaxis(unit_rms(split), 2, 0).reshape(3, *qkv.shape[:2], -1)
        return attend_places(q, k, v, self.heads)


class MagnitudeStart(LaterInput):
    """`(e + g u) / sqrt(1 + g^2)`, `u = W mp_silu(sum_i A_i sqrt(2) phi(number_i) / sqrt(n))`, with
    the gain `g = 0` at the start.

    `W` and `A` are normalised where they are used, so that `u` has about unit magnitude and the
    vector keeps its own, whatever is learned.
    """

    inputs: tuple[Weight, ...]
    output: Weight
    gain: Float[Array, ""]

    def __init__(self, width: int, numbers: int, *, normal: Normal):
        how = {"folded": False, "normal": normal}
        self.inputs = tuple(Weight(2 * FREQUENCIES, width, **how) for _ in range(numbers))
        self.output = Weight(width, width, **how)
        self.gain = jnp.zeros((), jnp.float32)

    def __call__(
        self, e: Float[Array, " embed"], numbers: Sequence[Float[Array, ""]]
    ) -> Float[Array, " embed"]:
        given = (2**0.5 * sinusoid(number, FREQUENCIES, MAX_FREQUENCY) for number in numbers)
        hidden = sum(weight(x) for weight, x in zip(self.inputs, given, strict=True))
        u = self.output(mp_silu(jnp.asarray(hidden) / len(self.inputs) ** 0.5))
        return (e + self.gain * u) / jnp.sqrt(1 + jnp.square(self.gain))


class EDM2UNet(Network):
    """EDM2's network `N(x, s, t, cond)` of one image; `t` is looked at with `second_time` alone.

    Every layer keeps the magnitude of its input. The noise enters as `ln(sigma) / 4` with
    `sigma = s / (1 - s)`; for `DenoisedNetwork` in an `EndpointMap`, which is EDM's
    preconditioning. No label and the null class are a vector of zeros in the place of the label's.
    Fresh networks are zero. A student should be `renormalised` after each step; a frozen teacher
    may be folded where it is converted. Source: EDM2 (arXiv 2312.02696), configuration G.
    """

    frequencies: Float[Array, " n"]
    phases: Float[Array, " n"]
    noise: Weight
    label: Weight | None
    input: Weight
    encoder: tuple[EDM2Block, ...]
    decoder: tuple[EDM2Block, ...]
    output: Weight
    gain: Float[Array, ""]
    later: LaterInputs
    dropout: Dropout | None
    joins: tuple[bool, ...] = eqx.field(static=True)
    config: EDM2UNetConfig = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], num_classes: int, config: EDM2UNetConfig, *, normal: Normal
    ):
        how = {"folded": config.folded, "normal": normal}
        sizes = [config.channels * m for m in config.multipliers]
        embed = max(sizes)
        self.frequencies = 2 * jnp.pi * normal(sizes[0])
        self.phases = 2 * jnp.pi * normal(sizes[0])  # as angles nearly uniform
        self.noise = Weight(sizes[0], embed, **how)
        self.label = Weight(num_classes, embed, **how) if num_classes else None
        self.input = Weight(shape[2] + 1, sizes[0], side=3, **how)
        encoder, decoder = config.plan(shape[0])
        self.encoder = tuple(
            EDM2Block(b, embed, config, encodes=True, normal=normal) for b in encoder
        )
        self.decoder = tuple(
            EDM2Block(b, embed, config, encodes=False, normal=normal) for b in decoder
        )
        self.dropout = dropout(config.dropout)
        self.joins = tuple(b.joins for b in decoder)
        self.output = Weight(sizes[0], shape[2], side=3, **how)
        self.gain = jnp.zeros((), jnp.float32)
        self.later = LaterInputs(embed, config, MagnitudeStart, normal=normal)
        self.config = config

    @property
    def last_weight(self) -> Any:
        return self.gain

    @property
    def takes_guidance(self) -> bool:
        return self.config.guidance

    def suited(self, asked: Asked) -> Network:
        return suited(self, self.config.predicts, EDM_LEVELS, asked)

    def __call__(
        self, x: Image, s: Float[Array, ""], t: Float[Array, ""], cond: Condition | None = None
    ) -> Image:
        later = lambda e: self.later(e, s, t, cond)  # noqa: E731
        return self.body(x, self.embed(quarter_log_sigma(s), cond, later))

    def embed(
        self, noise: Float[Array, ""], cond: Condition | None = None, later: Later = unchanged
    ) -> Float[Array, " embed"]:
        """The embedding of the noise feature, `ln(sigma) / 4`, and of the label; float32. `later`
        puts what came later into it, before the last SiLU."""
        frequencies, phases = jax.lax.stop_gradient((self.frequencies, self.phases))
        e = self.noise(2**0.5 * jnp.cos(frequencies * noise + phases))
        if self.label is not None:
            classes = self.label.weight.shape[1]
            e = mp_sum(e, self.label(one_hot(cond, classes) * classes**0.5), 0.5)
        return mp_silu(later(e))

    def body(self, x: Image, e: Float[Array, " embed"]) -> Image:
        """The network for an embedding."""
        dtype, remat = self.config.dtype, self.config.remat
        run = rematerialise(lambda block, h, e, key: block(h, e, key), remat, in_scan=False)
        e = e.astype(jnp.bfloat16) if dtype == "bfloat16" else e
        ones = jnp.ones((*x.shape[:2], 1), e.dtype)
        h = self.input(jnp.concatenate([x.astype(e.dtype), ones], -1))
        skips = [h]
        masks = layer_keys(self.dropout, len(self.encoder) + len(self.decoder))
        for block in self.encoder:
            h = run(block, h, e, next(masks))
            skips.append(h)
        for block, joins in zip(self.decoder, self.joins, strict=True):
            joined = mp_concatenated(h, skips.pop()) if joins else h
            h = run(block, joined, e, next(masks))
        return self.output(h, self.gain).astype(x.dtype)


def renormalised(net: EDM2UNet) -> EDM2UNet:
    """The network with rows of weights of norm `sqrt(n)`: what EDM2 does after each training step,
    so that steps of the optimiser stay as large in proportion. Outputs stay, but for the 1e-4."""

    def row(part: Any) -> Any:
        if not isinstance(part, Weight) or part.folded:
            return part
        axes = part.weight.shape[:3] if part.weight.ndim == 4 else part.weight.shape[1:]
        return eqx.tree_at(lambda w: w.weight, part, part.normalised(math.sqrt(math.prod(axes))))

    return jax.tree.map(row, net, is_leaf=lambda part: isinstance(part, Weight))


def unit_rms(x: Float[Array, "*places channels"]) -> Float[Array, "*places channels"]:
    """`x / (1e-4 + rms(x))` along the last axis, in float32."""
    wide = at_least_float32(x)
    rms = jnp.sqrt(jnp.square(wide).mean(-1, keepdims=True))
    return (wide / (EPSILON + rms)).astype(x.dtype)


def mp_silu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`silu(x) / 0.596`, of unit variance where `x` is standard normal."""
    return jax.nn.silu(x) / 0.596


def mp_sum(
    a: Float[Array, "*shape"], b: Float[Array, "*shape"], share: float
) -> Float[Array, "*shape"]:
    """`((1 - share) a + share b) / sqrt((1 - share)^2 + share^2)`."""
    return ((1 - share) * a + share * b) / math.hypot(1 - share, share)


def mp_concatenated(
    a: Float[Array, "h w some"], b: Float[Array, "h w others"]
) -> Float[Array, "h w both"]:
    """Both, each scaled to half of the sum of squares."""
    total = a.shape[-1] + b.shape[-1]
    parts = (x * math.sqrt(total / (2 * x.shape[-1])) for x in (a, b))
    return jnp.concatenate(list(parts), -1)
