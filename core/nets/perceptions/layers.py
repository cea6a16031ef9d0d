"""The parts of trained convolutional networks, their batch norm folded into the weights."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.nets.perceptions.source import Source

LAYOUT = ("NHWC", "HWIO", "NHWC")
Image = Float[Array, "h w c"]


class Convolution(eqx.Module):
    """A convolution with a bias, of one picture. Depthwise where the weight has one input."""

    weight: Float[Array, "kh kw in out"]
    bias: Float[Array, " out"]
    stride: int = eqx.field(static=True, default=1)
    padding: str = eqx.field(static=True, default="SAME")

    def __call__(self, x: Image) -> Float[Array, "_ _ out"]:
        if self.weight.shape[2] == 1 and x.shape[2] > 1:
            return depthwise(x, self.weight[:, :, 0], self.stride) + self.bias[None, None]
        if self.weight.shape[:2] == (1, 1):
            return jnp.einsum("hwi,io->hwo", x, self.weight[0, 0]) + self.bias[None, None]
        y = jax.lax.conv_general_dilated(
            x[None], self.weight, (self.stride,) * 2, self.padding, dimension_numbers=LAYOUT
        )
        return y[0] + self.bias[None, None]


def depthwise(x: Image, weight: Float[Array, "kh kw c"], stride: int) -> Float[Array, "_ _ c"]:
    """One filter a channel, padded at the end first ("SAME"), as a sum of shifted pictures: XLA's
    grouped convolution is many times slower on CPUs."""
    out = [-(-n // stride) for n in x.shape[:2]]
    needed = [max((o - 1) * stride + k - n, 0) for o, k, n in zip(out, weight.shape, x.shape)]
    padded = jnp.pad(x, [(n // 2, n - n // 2) for n in needed] + [(0, 0)])
    ends = [(o - 1) * stride + 1 for o in out]
    total = jnp.zeros((*out, x.shape[2]), x.dtype)
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            part = padded[i : i + ends[0] : stride, j : j + ends[1] : stride]
            total += part * weight[i, j][None, None]
    return total


def average_pool(x: Image) -> Image:
    """The mean of 3 x 3 places, of those that there are: padding does not count.

    The counts are NumPy's. XLA's compiler for CPUs works out a pool of ones while it compiles, and
    takes minutes for it.
    """
    places = [np.arange(n) for n in x.shape[:2]]
    high, wide = (np.minimum(i + 2, len(i)) - np.maximum(i - 1, 0) for i in places)
    summed = jax.lax.reduce_window(x, 0.0, jax.lax.add, (3, 3, 1), (1, 1, 1), "SAME")
    return summed / jnp.asarray(np.outer(high, wide)[..., None], x.dtype)


def max_pool(x: Image, stride: int, padding: str) -> Float[Array, "_ _ c"]:
    """The greatest of 3 x 3 places."""
    window = (3, 3, 1), (stride, stride, 1)
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, *window, padding)


def folded(
    source: Source, convolution: str, norm: str, shape: tuple[int, ...], epsilon: float, **how: Any
) -> Convolution:
    """`norm(convolution(x))` as one convolution, computed in float64.

    **Arguments:** names of both in the file; `shape` (out, in, kh, kw) of the weight, as torch has
    it; `how` stride and padding.
    """
    weight = source.take(f"{convolution}.weight", shape)
    scale, shift, mean, variance = (
        source.take(f"{norm}.{part}", shape[:1])
        for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + epsilon)
    kernel = (weight * factor[:, None, None, None]).transpose(2, 3, 1, 0)
    return Convolution(single(kernel), single(shift - mean * factor), **how)


def single(values: Float[np.ndarray, "..."]) -> Array:
    """An array of a network in float32, put on the device: `jnp.asarray` compiles a program for
    every shape."""
    return jax.device_put(np.ascontiguousarray(values, np.float32))
