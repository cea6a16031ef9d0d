"""EDM's networks for images: ddpm++, ncsn++ and ADM, as their checkpoints have them."""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.network import Asked, Network
from core.nets.convolutional import (
    Conv,
    GroupNorm,
    Image,
    Padding,
    Resample,
    attend_places,
    resample,
    smoothed,
)
from core.nets.dropout import Dropout, dropout, layer_keys, thinned
from core.nets.initial import Normal, initialise
from core.nets.later_inputs import Later, LaterInputs, unchanged
from core.nets.layers import Dense, cast, rematerialise
from core.nets.levels import Block, LevelsConfig, levels
from core.nets.noise_levels import angles, one_hot, quarter_log_sigma
from core.nets.suited import EDM_LEVELS, suited

Variant = Literal["ddpm++", "ncsn++", "adm"]
WIDE: Padding = ((2, 2), (2, 2))


class Style(NamedTuple):
    """In what the variants differ: epsilon of norms; the factor after each sum; whether the
    embedding scales and shifts; how images are halved and doubled, and whether by a projection."""

    epsilon: float
    factor: float
    scales: bool
    smooth: bool
    projects: bool


STYLES: dict[Variant, Style] = {
    "ddpm++": Style(1e-6, 0.5**0.5, False, False, True),
    "ncsn++": Style(1e-6, 0.5**0.5, False, True, True),
    "adm": Style(1e-5, 1.0, True, False, False),
}


@dataclass(frozen=True)
class EDMUNetConfig(LevelsConfig):
    """Flags of EDM's networks, with the sizes of its CIFAR-10 network."""

    variant: Variant = "ddpm++"
    """ddpm++, ncsn++ (noise by random frequencies, smooth resampling, the image beside the
    encoder), or adm."""

    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> "EDMUNet":
        """The network for square images of `shape` (H, H, C). Raises `UserError` for others."""
        self.check_shape(shape)
        return initialise(lambda normal: EDMUNet(shape, num_classes, self, normal=normal), key)

    @property
    def style(self) -> Style:
        """In what the variant differs from others. Raises `UserError` for an unknown one."""
        if self.variant not in STYLES:
            raise UserError(f"--net.variant must be one of {', '.join(STYLES)}, got {self.variant}")
        return STYLES[self.variant]

    @property
    def first(self) -> int:
        """Channels behind the first convolution."""
        return self.channels * (self.multipliers[0] if self.variant == "adm" else 1)

    def heads(self, channels: int) -> int:
        """Attention heads of a block that attends."""
        return channels // self.head_channels if self.variant == "adm" else 1

    def plan(self, height: int) -> tuple[list[Block], list[Block]]:
        """Blocks of encoder and decoder, for images of `height` pixels."""
        sizes, there = [self.channels * m for m in self.multipliers], set(self.attention)
        up = there if self.variant == "adm" else set()
        return levels(height, self.first, sizes, self.blocks, there, up)


class EDMBlock(eqx.Module):
    """Two convolutions between which the embedding enters, a short cut, and maybe attention.

        y = conv_1(silu(norm_1(conv_0(rs(silu(norm_0(x)))) + affine(e)))),  x = (skip(rs(x)) + y) f
        x = (proj(attention(qkv(norm_2(x)))) + x) f

    with `f = sqrt(1/2)`, and in adm `f = 1` and `norm_1(y) (1 + scale) + shift`. `rs` halves or
    doubles the image. Where a key is given, numbers before `conv_1` are dropped. Source: EDM (arXiv
    2206.00364), appendix F.1.
    """

    norm_0: GroupNorm
    conv_0: Conv
    affine: Dense
    norm_1: GroupNorm
    conv_1: Conv
    skip: Dense | None
    norm_2: GroupNorm | None
    qkv: Dense | None
    proj: Dense | None
    style: Style = eqx.field(static=True)
    how: Resample = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    drop_rate: float = eqx.field(static=True)

    def __init__(self, block: Block, embed: int, config: EDMUNetConfig, *, normal: Normal):
        style, size_in, size_out = config.style, block.size_in, block.size_out
        self.style, self.how, self.drop_rate = style, block.how, config.dropout
        self.heads = config.heads(size_out) if block.attends else 0
        self.norm_0 = GroupNorm(size_in, epsilon=style.epsilon)
        self.conv_0 = Conv(size_in, size_out, normal=normal)
        self.affine = Dense(embed, size_out * (1 + style.scales), normal=normal)
        self.norm_1 = GroupNorm(size_out, epsilon=style.epsilon)
        self.conv_1 = Conv(size_out, size_out, scale=0.0, normal=normal)
        projects = size_in != size_out or (block.how != "keep" and style.projects)
        self.skip = Dense(size_in, size_out, normal=normal) if projects else None
        attends = self.heads > 0
        self.norm_2 = GroupNorm(size_out, epsilon=style.epsilon) if attends else None
        self.qkv = Dense(size_out, 3 * size_out, normal=normal) if attends else None
        self.proj = Dense(size_out, size_out, scale=0.0, normal=normal) if attends else None

    def __call__(
        self, x: Image, e: Float[Array, " embed"], key: Key[Array, ""] | None = None
    ) -> Float[Array, "h w c"]:
        style, given = self.style, self.affine(e)[None, None]
        y = self.conv_0(self._resampled(jax.nn.silu(self.norm_0(x))))
        if style.scales:
            scale, shift = jnp.split(given, 2, -1)
            y = self.norm_1(y) * (1 + scale) + shift
        else:
            y = self.norm_1(y + given)
        y = self.conv_1(thinned(jax.nn.silu(y), self.drop_rate, key))
        x = self._resampled(x)
        x = (y + (x if self.skip is None else self.skip(x))) * style.factor
        if self.norm_2 is None or self.qkv is None or self.proj is None:
            return x
        q, k, v = jnp.split(self.qkv(self.norm_2(x)), 3, -1)
        return (self.proj(attend_places(q, k, v, self.heads)) + x) * style.factor

    def _resampled(self, x: Image) -> Float[Array, "h w c"]:
        return smoothed(x, self.how) if self.style.smooth else resample(x, self.how)


class EDMUNet(Network):
    """EDM's network `N(x, s, t, cond)` of one image; `t` is looked at with `second_time` alone.

    The noise enters as `ln(sigma) / 4` with `sigma = s / (1 - s)`; for `DenoisedNetwork` in an
    `EndpointMap`, which is EDM's preconditioning. No label and the null class are a vector of
    zeros in the place of the label's. Fresh networks are zero. Source: EDM (arXiv 2206.00364),
    table 1 and appendix F.
    """

    frequencies: Float[Array, " n"] | None
    layer_0: Dense
    layer_1: Dense
    label: Dense | None
    input: Conv
    encoder: tuple[EDMBlock, ...]
    residuals: tuple[Conv, ...]
    decoder: tuple[EDMBlock, ...]
    norm: GroupNorm
    output: Conv
    later: LaterInputs
    dropout: Dropout | None
    joins: tuple[bool, ...] = eqx.field(static=True)
    config: EDMUNetConfig = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], num_classes: int, config: EDMUNetConfig, *, normal: Normal
    ):
        adm, random = config.variant == "adm", config.variant == "ncsn++"
        features, embed = config.channels * (1 + random), 4 * config.channels
        self.frequencies = 16 * normal(features // 2) if random else None
        self.layer_0 = Dense(features, embed, normal=normal)
        self.layer_1 = Dense(embed, embed, normal=normal)
        width = embed if adm else features
        self.label = Dense(num_classes, width, bias=not adm, normal=normal) if num_classes else None
        self.input = Conv(shape[2], config.first, normal=normal)
        encoder, decoder = config.plan(shape[0])
        self.encoder = tuple(EDMBlock(b, embed, config, normal=normal) for b in encoder)
        sizes = [shape[2], *(b.size_out for b in encoder if b.how == "down" and random)]
        self.residuals = tuple(
            Conv(aux, size, padding=WIDE, normal=normal) for aux, size in zip(sizes, sizes[1:])
        )
        self.decoder = tuple(EDMBlock(b, embed, config, normal=normal) for b in decoder)
        self.dropout = dropout(config.dropout)
        self.joins = tuple(b.joins for b in decoder)
        self.norm = GroupNorm(decoder[-1].size_out, epsilon=config.style.epsilon)
        self.output = Conv(decoder[-1].size_out, shape[2], scale=0.0, normal=normal)
        self.later = LaterInputs(embed, config, normal=normal)
        self.config = config

    @property
    def last_weight(self) -> Any:
        return self.output.weight

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
        e = self._features(noise)
        adm, label = self.config.variant == "adm", None
        if self.label is not None:
            classes = self.label.weight.shape[1]
            label = self.label(one_hot(cond, classes) * (1 if adm else classes**0.5))
        if label is not None and not adm:
            e = e + label
        e = self.layer_1(jax.nn.silu(self.layer_0(e)))
        return jax.nn.silu(later(e if label is None or not adm else e + label))

    def body(self, x: Image, e: Float[Array, " embed"]) -> Image:
        """The network for an embedding."""
        dtype, remat = self.config.dtype, self.config.remat
        parts = self.input, self.encoder, self.residuals, self.decoder, self.norm, self.output
        first, encoder, residuals, decoder, norm, output = cast(parts, dtype)
        run = rematerialise(lambda block, h, e, key: block(h, e, key), remat, in_scan=False)
        e = e.astype(jnp.bfloat16) if dtype == "bfloat16" else e
        aux, beside = x.astype(e.dtype), iter(residuals)
        masks = layer_keys(self.dropout, len(encoder) + len(decoder))
        h = first(aux)
        skips = [h]
        for block in encoder:
            h = run(block, h, e, next(masks))
            if block.how == "down" and residuals:
                h = aux = (h + smoothed(next(beside)(aux), "down", padding=0)) * 0.5**0.5
            skips.append(h)
        for block, joins in zip(decoder, self.joins, strict=True):
            joined = jnp.concatenate([h, skips.pop()], -1) if joins else h
            h = run(block, joined, e, next(masks))
        return output(jax.nn.silu(norm(h))).astype(x.dtype)

    def _features(self, noise: Float[Array, ""]) -> Float[Array, " features"]:
        if self.frequencies is not None:
            turns = 2 * jnp.pi * noise * jax.lax.stop_gradient(self.frequencies)
            return jnp.concatenate([jnp.sin(turns), jnp.cos(turns)])
        half = self.config.channels // 2
        if self.config.variant == "adm":
            turns = angles(noise, half)
            return jnp.concatenate([jnp.cos(turns), jnp.sin(turns)])
        turns = angles(noise, half, shift=1)
        return jnp.concatenate([jnp.sin(turns), jnp.cos(turns)])
