"""The blocks that diffusers' convolutional networks are made of."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.nets.convolutional import (
    AROUND,
    AT_THE_END,
    Conv,
    GroupNorm,
    Image,
    Resample,
    attend_places,
    resample,
)
from core.nets.initial import Normal
from core.nets.layers import Dense

Halving = Literal["at the end", "around", "resnet", "none"]
"""How a level ends: a convolution of stride 2 with zeros at the end or around, a whole residual
block, or not at all."""


class Resnet(eqx.Module):
    """Two convolutions, the embedding between them, and a short cut: `ResnetBlock2D`.

        h = conv_1(rs(silu(norm_1(x)))) + embed(silu(e)),  y = conv_2(silu(norm_2(h)))

    or with `scales` `norm_2(h) (1 + scale) + shift`; `(short(rs(x)) + y) / divisor`. `rs` halves
    (mean of 2x2) or doubles (nearest) the image. `embed` is None where nothing is embedded.
    """

    norm_1: GroupNorm
    conv_1: Conv
    embed: Dense | None
    norm_2: GroupNorm
    conv_2: Conv
    short: Dense | None
    scales: bool = eqx.field(static=True)
    how: Resample = eqx.field(static=True)
    divisor: float = eqx.field(static=True)

    def __init__(
        self,
        size_in: int,
        size_out: int,
        embed: int,
        *,
        groups: int,
        epsilon: float,
        scales: bool = False,
        how: Resample = "keep",
        divisor: float = 1.0,
        normal: Normal,
    ):
        self.norm_1 = GroupNorm(size_in, groups=groups, epsilon=epsilon)
        self.conv_1 = Conv(size_in, size_out, normal=normal)
        wide = size_out * (1 + scales)
        self.embed = Dense(embed, wide, normal=normal) if embed else None
        self.norm_2 = GroupNorm(size_out, groups=groups, epsilon=epsilon)
        self.conv_2 = Conv(size_out, size_out, normal=normal)
        self.short = Dense(size_in, size_out, normal=normal) if size_in != size_out else None
        self.scales, self.how, self.divisor = scales, how, divisor

    def __call__(self, x: Image, e: Float[Array, " embed"] | None = None) -> Float[Array, "h w c"]:
        h = self.conv_1(resample(jax.nn.silu(self.norm_1(x)), self.how))
        if self.embed is None or e is None:
            h = self.norm_2(h)
        else:
            given = self.embed(jax.nn.silu(e))[None, None]
            if self.scales:
                scale, shift = jnp.split(given, 2, -1)
                h = self.norm_2(h) * (1 + scale) + shift
            else:
                h = self.norm_2(h + given)
        h = self.conv_2(jax.nn.silu(h))
        x = resample(x, self.how)
        return ((x if self.short is None else self.short(x)) + h) / self.divisor


class PlaceAttention(eqx.Module):
    """`(merge(attention(q(n), k(n), v(n))) + x) / divisor` with `n = norm(x)`, or `x` itself where
    there is no norm."""

    norm: GroupNorm | None
    q: Dense
    k: Dense
    v: Dense
    merge: Dense
    heads: int = eqx.field(static=True)
    divisor: float = eqx.field(static=True)

    def __init__(
        self,
        channels: int,
        heads: int,
        *,
        groups: int | None,
        epsilon: float,
        divisor: float = 1.0,
        normal: Normal,
    ):
        normed = groups is not None
        self.norm = GroupNorm(channels, groups=groups, epsilon=epsilon) if normed else None
        self.q, self.k, self.v, self.merge = (
            Dense(channels, channels, normal=normal) for _ in range(4)
        )
        self.heads, self.divisor = heads, divisor

    def __call__(self, x: Image) -> Image:
        n = x if self.norm is None else self.norm(x)
        a = attend_places(self.q(n), self.k(n), self.v(n), self.heads)
        return (self.merge(a) + x) / self.divisor


class Middle(eqx.Module):
    """Residual block, attention (where there is one), residual block: `UNetMidBlock2D`."""

    first: Resnet
    attend: PlaceAttention | None
    second: Resnet

    def __call__(self, x: Image, e: Float[Array, " embed"] | None = None) -> Float[Array, "h w c"]:
        h = self.first(x, e)
        return self.second(h if self.attend is None else self.attend(h), e)


def halving(channels: int, how: Halving, *, normal: Normal) -> Conv:
    """The convolution of stride 2."""
    padding = AT_THE_END if how == "at the end" else AROUND
    return Conv(channels, channels, stride=2, padding=padding, normal=normal)
