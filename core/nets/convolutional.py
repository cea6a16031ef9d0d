"""The parts of convolutional networks: convolutions, norms over groups, resampling, attention."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from einops import reduce, repeat
from jaxtyping import Array, Float

from core.nets.attention import attention
from core.nets.initial import Normal
from core.nets.layers import at_least_float32, scaled

Image = Float[Array, "height width channels"]
Resample = Literal["keep", "down", "up"]
Padding = str | tuple[tuple[int, int], tuple[int, int]]

LAYOUT = ("NHWC", "HWIO", "NHWC")
AROUND: Padding = ((1, 1), (1, 1))
"""One row and column of zeros on each side. With a stride this is not "SAME", which pads at the end
first."""
AT_THE_END: Padding = ((0, 1), (0, 1))


class Conv(eqx.Module):
    """A convolution of an HWC image, 3x3 and of the same size unless said otherwise."""

    weight: Float[Array, "side side in out"]
    bias: Float[Array, " out"]
    stride: int = eqx.field(static=True)
    padding: Padding = eqx.field(static=True)

    def __init__(
        self,
        size_in: int,
        size_out: int,
        *,
        side: int = 3,
        stride: int = 1,
        padding: Padding = "SAME",
        scale: float = 1.0,
        normal: Normal,
    ):
        """Weights of standard deviation `scale / sqrt(side^2 size_in)`, biases zero."""
        spread = scale / (side * side * size_in) ** 0.5
        self.weight = scaled(normal, (side, side, size_in, size_out), spread)
        self.bias = jnp.zeros(size_out, jnp.float32)
        self.stride, self.padding = stride, padding

    def __call__(self, x: Float[Array, "height width in"]) -> Float[Array, "h w out"]:
        y = jax.lax.conv_general_dilated(
            x[None], self.weight, (self.stride,) * 2, self.padding, dimension_numbers=LAYOUT
        )
        return y[0] + self.bias[None, None]


class GroupNorm(eqx.Module):
    """Normalises groups of channels over all pixels, in float32.

    `groups` is their number; None for groups of at least 4 channels, at most 32 groups.
    """

    scale: Float[Array, " channels"]
    shift: Float[Array, " channels"]
    groups: int = eqx.field(static=True)
    epsilon: float = eqx.field(static=True)

    def __init__(self, channels: int, *, groups: int | None = None, epsilon: float = 1e-5):
        self.scale = jnp.ones(channels, jnp.float32)
        self.shift = jnp.zeros(channels, jnp.float32)
        most = min(32, max(channels // 4, 1))
        fitting = next(n for n in range(most, 0, -1) if channels % n == 0)
        self.groups = fitting if groups is None else groups
        self.epsilon = epsilon

    def __call__(self, x: Image) -> Image:
        wide = at_least_float32(x).reshape(*x.shape[:2], self.groups, -1)
        centred = wide - wide.mean((0, 1, 3), keepdims=True)
        variance = jnp.square(centred).mean((0, 1, 3), keepdims=True)
        normed = (centred * jax.lax.rsqrt(variance + self.epsilon)).reshape(x.shape)
        return (normed * self.scale[None, None] + self.shift[None, None]).astype(x.dtype)


def resample(x: Image, how: Resample) -> Float[Array, "h w channels"]:
    """Halves (mean of 2x2 pixels) or doubles (nearest) height and width, or keeps them."""
    if how == "down":
        return reduce(x, "(h p) (w q) c -> h w c", "mean", p=2, q=2)
    if how == "up":
        return repeat(x, "h w c -> (h p) (w q) c", p=2, q=2)
    return x


def smoothed(x: Image, how: Resample, *, padding: int = 1) -> Float[Array, "h w channels"]:
    """`resample` through the filter [1, 3, 3, 1] along each axis, with zeros around the image.

    Down, the filter of sum 1 at every second place, behind `padding` zeros; up, the filter of sum 2
    over the image with a zero behind each pixel. Source: EDM (arXiv 2206.00364), appendix F.
    """
    for axis in (0, 1):
        x = {"keep": lambda x, _: x, "down": _halved(padding), "up": _doubled}[how](x, axis)
    return x


def _halved(padding: int):
    def halved(x: Image, axis: int) -> Float[Array, "h w channels"]:
        wide = jnp.pad(x, [(padding * (i == axis),) * 2 for i in range(3)])
        size = (wide.shape[axis] - 4) // 2 + 1
        first, second, third, fourth = (
            jax.lax.slice_in_dim(wide, k, k + 2 * size - 1, 2, axis) for k in range(4)
        )
        return (first + 3 * second + 3 * third + fourth) / 8

    return halved


def _doubled(x: Image, axis: int) -> Float[Array, "h w channels"]:
    wide = jnp.pad(x, [((1, 1) if i == axis else (0, 0)) for i in range(3)])
    size = x.shape[axis]
    before, after = (jax.lax.slice_in_dim(wide, k, k + size, 1, axis) for k in (0, 2))
    both = jnp.stack([3 * x + before, 3 * x + after], axis + 1) / 4
    return both.reshape(*(size * (1 + (i == axis)) for i, size in enumerate(x.shape)))


def attend_places(q: Image, k: Image, v: Image, heads: int) -> Image:
    """Attention of each place of an image to all places; channels lie head by head."""
    a, b, c = (y.reshape(y.shape[0] * y.shape[1], heads, -1) for y in (q, k, v))
    return attention(a, b, c).reshape(q.shape)
