"""How pictures are brought to a network's size: each rule is a matrix for each axis.

A rule is linear, so it is differentiable, and it is separable. The matrices are made by NumPy in
float64 and are constants of a program.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Matrix = Float[np.ndarray, "out in"]


@functools.lru_cache(maxsize=64)
def pillow_bicubic(size: int, out: int) -> Matrix:
    """Pillow's bicubic (a = -1/2): antialiased, the kernel as wide as the step where that shrinks,
    cut at the edges and normalised."""
    scale = size / out
    wide = max(scale, 1.0)
    matrix = np.zeros((out, size))
    for i in range(out):
        centre = (i + 0.5) * scale
        low = max(int(centre - 2 * wide + 0.5), 0)
        high = min(int(centre + 2 * wide + 0.5), size)
        weights = cubic((np.arange(low, high) - centre + 0.5) / wide, -0.5)
        matrix[i, low:high] = weights / weights.sum()
    return matrix


@functools.lru_cache(maxsize=64)
def tensorflow_bilinear(size: int, out: int) -> Matrix:
    """TensorFlow 1's bilinear: `i size / out` with no half pixel, two neighbours, the upper one
    clamped, no antialias."""
    where = np.arange(out) * (np.float32(size) / np.float32(out))
    low = np.minimum(np.floor(where).astype(int), size - 1)
    share = where - low
    matrix = np.zeros((out, size))
    np.add.at(matrix, (np.arange(out), low), 1 - share)
    np.add.at(matrix, (np.arange(out), np.minimum(low + 1, size - 1)), share)
    return matrix


@functools.lru_cache(maxsize=64)
def torch_bicubic(size: int, out: int, step: float) -> Matrix:
    """Torch's bicubic (a = -3/4) of half pixels, edges clamped, no antialias, at steps of `step`
    old places, which need not be `size / out`."""
    matrix = np.zeros((out, size))
    for i in range(out):
        centre = (i + 0.5) * step - 0.5
        low = int(np.floor(centre))
        for j in range(low - 1, low + 3):
            matrix[i, min(max(j, 0), size - 1)] += cubic(np.asarray(centre - j), -0.75)
    return matrix


def cubic(x: Float[np.ndarray, "*n"], a: float) -> Float[np.ndarray, "*n"]:
    """Keys' kernel of convolution, of width 4."""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def resized(
    image: Float[Array, "h w c"],
    rows: Float[np.ndarray, "out_h h"],
    columns: Float[np.ndarray, "out_w w"],
) -> Float[Array, "out_h out_w c"]:
    """The picture with a matrix applied along each of its axes."""
    down = jnp.asarray(rows, image.dtype), jnp.asarray(columns, image.dtype)
    half = jnp.einsum("pw,hwc->hpc", down[1], image)
    return jnp.einsum("oh,hpc->opc", down[0], half)
