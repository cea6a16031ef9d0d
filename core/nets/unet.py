"""A convolutional U-Net with two times, for images."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.network import Network
from core.nets.attention import attention
from core.nets.convolutional import Conv, GroupNorm, Image, Resample, resample
from core.nets.dropout import Dropout, dropout, layer_keys, thinned
from core.nets.embeddings import Embedding, EmbeddingConfig
from core.nets.initial import Normal, initialise
from core.nets.layers import Dense, Dtype, Remat, cast, rematerialise


@dataclass(frozen=True)
class UNetConfig(EmbeddingConfig):
    """Flags of the convolutional network for images. The defaults suit 28x28 and 32x32 on a CPU."""

    channels: int = 16
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels of each level over those of the first; each level halves the resolution."""
    blocks: int = 1
    """Residual blocks of a level on the way down; one more on the way up."""
    attention: tuple[int, ...] = (7, 8)
    """Resolutions (heights in pixels) at which blocks have self-attention."""
    heads: int = 2
    """Number of attention heads."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, times, softmax, norms and output stay float32."""
    dropout: float = 0.0
    """Share of the numbers between the convolutions of a block that are dropped in training, drawn
    afresh for each row of a batch; none in targets, teachers and samples."""
    remat: Remat = "none"
    """The activations of each block that the backward pass recomputes: none, all but matrix
    products (dots; convolutions are computed again), or all (full)."""

    def __post_init__(self):
        super().__post_init__()
        self.check_sizes(channels=1, heads=1, multipliers=1, attention=1, blocks=0)
        self.check_dropout(self.dropout)
        if not self.multipliers:
            raise UserError("--net.multipliers needs one number a level")

    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> "UNet":
        """The network for images of `shape` (H, W, C). Raises `UserError` where that fails."""
        if len(shape) != 3:
            raise UserError(
                f"the unet is for images (H, W, C), but the data have shape {shape}: "
                f"use --net {'dit' if len(shape) == 2 else 'mlp'}"
            )
        step = 2 ** (len(self.multipliers) - 1)
        if shape[0] % step or shape[1] % step:
            raise UserError(
                f"{len(self.multipliers)} levels need sides divisible by {step}, but images are "
                f"{shape[0]}x{shape[1]}: give fewer --net.multipliers"
            )
        if any(self.channels * m % self.heads for m in self.multipliers):
            raise UserError(f"{self.heads} heads do not divide the channels: change --net.heads")
        return initialise(lambda normal: UNet(shape, num_classes, self, normal=normal), key)


class SelfAttention(eqx.Module):
    """`x + merge(attention(norm(x)))` over all pixels; the identity at the start of training."""

    norm: GroupNorm
    qkv: Dense
    merge: Dense
    heads: int = eqx.field(static=True)

    def __init__(self, channels: int, heads: int, *, normal: Normal):
        self.norm = GroupNorm(channels)
        self.qkv = Dense(channels, 3 * channels, normal=normal)
        self.merge = Dense(channels, channels, scale=0.0, normal=normal)
        self.heads = heads

    def __call__(self, x: Image) -> Image:
        tokens = self.norm(x).reshape(-1, x.shape[-1])
        q, k, v = (
            y.reshape(y.shape[0], self.heads, -1) for y in jnp.split(self.qkv(tokens), 3, axis=-1)
        )
        return x + self.merge(attention(q, k, v).reshape(tokens.shape)).reshape(x.shape)


class ResBlock(eqx.Module):
    """Two convolutions around a norm that the embedding scales and shifts, and a short cut.

        y = conv_2(silu(scale norm(conv_1(silu(norm(x)))) + shift)),   x = (short(x) + y) / sqrt(2)

    Where a key is given, numbers before the second convolution are dropped, as in the source: EDM
    (arXiv 2206.00364), the block of its DDPM++ network.
    """

    norm_1: GroupNorm
    conv_1: Conv
    modulation: Dense
    norm_2: GroupNorm
    conv_2: Conv
    short: Dense | None
    attend: SelfAttention | None
    how: Resample = eqx.field(static=True)
    drop_rate: float = eqx.field(static=True)

    def __init__(
        self,
        size_in: int,
        size_out: int,
        embed: int,
        *,
        how: Resample = "keep",
        heads: int = 0,
        rate: float = 0.0,
        normal: Normal,
    ):
        self.norm_1 = GroupNorm(size_in)
        self.conv_1 = Conv(size_in, size_out, normal=normal)
        self.modulation = Dense(embed, 2 * size_out, scale=0.1, normal=normal)
        self.norm_2 = GroupNorm(size_out)
        self.conv_2 = Conv(size_out, size_out, scale=0.0, normal=normal)
        changes = size_in != size_out
        self.short = Dense(size_in, size_out, bias=False, normal=normal) if changes else None
        self.attend = SelfAttention(size_out, heads, normal=normal) if heads else None
        self.how, self.drop_rate = how, rate

    def __call__(
        self, x: Image, e: Float[Array, " embed"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "h w c"]:
        scale, shift = jnp.split(self.modulation(e)[None, None], 2, -1)
        y = self.conv_1(resample(jax.nn.silu(self.norm_1(x)), self.how))
        y = jax.nn.silu(self.norm_2(y) * (1 + scale) + shift)
        y = self.conv_2(thinned(y, self.drop_rate, key))
        x = resample(x, self.how)
        x = (y + (x if self.short is None else self.short(x))) * 0.5**0.5
        return x if self.attend is None else self.attend(x)


class UNet(Network):
    """`N(x, s, t, cond)` of one image `x` of shape (H, W, C); zero at the start of training."""

    embedding: Embedding
    input: Conv
    down: tuple[ResBlock, ...]
    up: tuple[ResBlock, ...]
    norm: GroupNorm
    output: Conv
    dropout: Dropout | None
    joins: tuple[bool, ...] = eqx.field(static=True)
    config: UNetConfig = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        config: UNetConfig,
        *,
        normal: Normal,
    ):
        embed, channels = 4 * config.channels, config.channels
        self.embedding = Embedding(embed, num_classes, config, normal=normal)
        entering = 2 * shape[2] if config.state else shape[2]
        self.input = Conv(entering, channels, normal=normal)
        down, up = plan(shape[0], config)
        self.down = tuple(p.build(embed, config.dropout, normal) for p in down)
        self.up = tuple(p.build(embed, config.dropout, normal) for p in up)
        self.dropout = dropout(config.dropout)
        self.joins = tuple(p.joins for p in up)
        self.norm = GroupNorm(channels * config.multipliers[0])
        self.output = Conv(channels * config.multipliers[0], shape[2], scale=0.0, normal=normal)
        self.config = config

    @property
    def last_weight(self) -> Any:
        return self.output.weight

    @property
    def takes_guidance(self) -> bool:
        return self.config.guidance

    def __call__(
        self, x: Image, s: Float[Array, ""], t: Float[Array, ""], cond: Condition | None = None
    ) -> Image:
        dtype, remat = self.config.dtype, self.config.remat
        e = cast(jax.nn.silu(self.embedding(s, t, cond)), dtype)
        net = cast((self.input, self.down, self.up, self.norm, self.output), dtype)
        first, down, up, norm, output = net
        run = rematerialise(lambda block, h, e, key: block(h, e, key), remat, in_scan=False)
        masks = layer_keys(self.dropout, len(down) + len(up))
        h = first(self.embedding.beside(x, cond).astype(e.dtype))
        skips = [h]
        for block in down:
            h = run(block, h, e, next(masks))
            skips.append(h)
        for block, joins in zip(up, self.joins, strict=True):
            joined = jnp.concatenate([h, skips.pop()], -1) if joins else h
            h = run(block, joined, e, next(masks))
        return output(jax.nn.silu(norm(h))).astype(x.dtype)


class Plan(NamedTuple):
    """One residual block to be built; `joins` says that a skip connection is appended to it."""

    size_in: int
    size_out: int
    how: Resample
    heads: int
    joins: bool

    def build(self, embed: int, rate: float, normal: Normal) -> ResBlock:
        """The block, for embeddings of size `embed` and dropout of `rate`."""
        sizes, how, heads = (self.size_in, self.size_out, embed), self.how, self.heads
        return ResBlock(*sizes, how=how, heads=heads, rate=rate, normal=normal)


def plan(height: int, config: UNetConfig) -> tuple[list[Plan], list[Plan]]:
    """The blocks on the way down and on the way up, for images of `height` pixels."""
    sizes = [config.channels * m for m in config.multipliers]
    heads = [config.heads * (height >> i in config.attention) for i in range(len(sizes))]
    down, skips, size = [], [config.channels], config.channels
    for i, wanted in enumerate(sizes):
        if i > 0:
            down.append(Plan(size, size, "down", 0, False))
            skips.append(size)
        for _ in range(config.blocks):
            down.append(Plan(size, wanted, "keep", heads[i], False))
            skips.append(size := wanted)
    up = [Plan(size, size, "keep", heads[-1], False), Plan(size, size, "keep", 0, False)]
    for i in reversed(range(len(sizes))):
        if i < len(sizes) - 1:
            up.append(Plan(size, size, "up", 0, False))
        for _ in range(config.blocks + 1):
            up.append(Plan(size + skips.pop(), sizes[i], "keep", heads[i], True))
            size = sizes[i]
    return down, up
