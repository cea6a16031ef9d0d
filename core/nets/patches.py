"""Examples on a grid cut into patches, one token each: images in squares, series in pieces."""

import math

import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from core.errors import UserError


def grid_of(shape: tuple[int, ...], side: int) -> tuple[int, ...]:
    """Patches along each axis of examples of `shape`, (H, W, C) or (L, C)."""
    return tuple(size // side for size in shape[:-1])


def check_patches(shape: tuple[int, ...], side: int) -> None:
    """Raises `UserError` for examples that are neither images nor series, or whose sides `side`
    does not divide."""
    if len(shape) not in (2, 3):
        raise UserError(
            f"the dit is for images (H, W, C) and series (L, C), but the data have shape {shape}: "
            "use --net mlp"
        )
    if any(size % side for size in shape[:-1]):
        what = "series of length" if len(shape) == 2 else "images of"
        raise UserError(
            f"patches of {side} do not divide {what} {'x'.join(map(str, shape[:-1]))}: "
            "choose another --net.patch"
        )


def patch_size(shape: tuple[int, ...], side: int) -> int:
    """Numbers in a patch."""
    return side ** (len(shape) - 1) * shape[-1]


def cut(x: Float[Array, "*grid channels"], side: int) -> Float[Array, "tokens numbers"]:
    """The patches of one example, row by row."""
    if x.ndim == 2:
        return rearrange(x, "(l p) c -> l (p c)", p=side)
    return rearrange(x, "(h p) (w q) c -> (h w) (p q c)", p=side, q=side)


def joined(
    patches: Float[Array, "tokens numbers"], shape: tuple[int, ...], side: int
) -> Float[Array, "*grid channels"]:
    """The example of `shape` whose patches these are."""
    if len(shape) == 2:
        return rearrange(patches, "l (p c) -> (l p) c", p=side)
    high = shape[0] // side
    return rearrange(patches, "(h w) (p q c) -> (h p) (w q) c", h=high, p=side, q=side)


def sincos_positions(grid: tuple[int, ...], width: int) -> np.ndarray:
    """Sines and cosines of the place along each axis, (places, width); frequencies 1 to 1e-4.

    In a plane a quarter of the width each for the sine and the cosine of the row and of the
    column; along a line one half each.
    """
    count = width // (2 * len(grid))
    omega = 1e4 ** -(np.arange(count) / count)
    places = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1)
    angles = (places.reshape(math.prod(grid), -1)[:, :, None] * omega).reshape(math.prod(grid), -1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
