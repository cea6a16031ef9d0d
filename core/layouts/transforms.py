"""How foreign arrays are laid out, and back: pure NumPy, each with its inverse.

| | torch | flax | ours |
|---|---|---|---|
| dense | weight (out, in): `same` | kernel (in, out): `transposed` | (out, in) |
| convolution | (out, in, h, w): `torch_convolution` | (h, w, in, out): `same` | HWIO |
| 1x1 convolution as a dense layer | (out, in, 1, 1): `pointwise` | | (out, in) |
| patch embedding | (D, C, p, p): `torch_patches` | (p, p, C, D): `flax_patches` | (D, p p C) |
| position table | (1, T, D): `without_batch` | | (T, D) |
| queries, keys, values | `regrouped` or `rows(3)` | `columns(3)` | rows [q; k; v] |

A depthwise convolution is one with (c, 1, h, w). A patch is ordered (row in patch, column in patch,
channel), channel fastest.
"""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import numpy as np


class Transform(NamedTuple):
    """From foreign arrays to one of ours, and from that one to the tuple of theirs."""

    ours: Callable[..., np.ndarray]
    theirs: Callable[[np.ndarray], tuple[np.ndarray, ...]]


def chain(first: Transform, *others: Transform) -> Transform:
    """First the one, then the others, each of which takes a single array."""
    steps = (first, *others)

    def theirs(x: np.ndarray) -> tuple[np.ndarray, ...]:
        for step in reversed(others):
            (x,) = step.theirs(x)
        return first.theirs(x)

    return Transform(
        lambda *arrays: reduce(lambda x, step: step.ours(x), others, steps[0].ours(*arrays)),
        theirs,
    )


def permuted(*axes: int) -> Transform:
    """`numpy.transpose` by these axes."""
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Transform(lambda w: w.transpose(axes), lambda w: (w.transpose(back),))


same = Transform(lambda w: w, lambda w: (w,))
transposed = permuted(1, 0)
torch_convolution = permuted(2, 3, 1, 0)
without_batch = Transform(lambda w: w[0], lambda w: (w[None],))
pointwise = Transform(lambda w: w[:, :, 0, 0], lambda w: (w[:, :, None, None],))


def torch_patches(side: int) -> Transform:
    """A convolution over patches of `side` as a dense layer over their numbers."""

    def theirs(w: np.ndarray) -> tuple[np.ndarray, ...]:
        return (w.reshape(w.shape[0], side, side, -1).transpose(0, 3, 1, 2),)

    return Transform(lambda w: w.transpose(0, 2, 3, 1).reshape(w.shape[0], -1), theirs)


def flax_patches(side: int) -> Transform:
    """The same from flax's kernel."""
    return Transform(
        lambda w: w.reshape(-1, w.shape[-1]).T,
        lambda w: (w.T.reshape(side, side, -1, w.shape[0]),),
    )


def rows(count: int) -> Transform:
    """`count` arrays of one shape, one below the other."""
    return Transform(
        lambda *arrays: np.concatenate(arrays),
        lambda w: tuple(np.split(w, count)),
    )


def columns(count: int) -> Transform:
    """`count` kernels of flax of one shape, each (in, out), as the rows of one dense layer."""
    return Transform(
        lambda *arrays: np.concatenate(arrays, axis=1).T,
        lambda w: tuple(np.split(w.T, count, axis=1)),
    )


def regrouped(heads: int, order: str) -> Transform:
    """Rows of queries, keys and values to ours, (3, heads, channels) with the channel fastest.

    `order` names the axes of theirs, slowest first: "hc3" (EDM, EDM2), "h3c" (guided diffusion),
    "3hc" (as ours). For weights and biases.
    """
    at = [order.index(axis) for axis in "3hc"]

    def sizes(w: np.ndarray) -> dict[str, int]:
        return {"3": 3, "h": heads, "c": w.shape[0] // (3 * heads)}

    def ours(w: np.ndarray) -> np.ndarray:
        split = w.reshape(*(sizes(w)[axis] for axis in order), *w.shape[1:])
        return split.transpose(*at, *range(3, split.ndim)).reshape(w.shape)

    def theirs(w: np.ndarray) -> tuple[np.ndarray, ...]:
        split = w.reshape(*(sizes(w)[axis] for axis in "3hc"), *w.shape[1:])
        back = (*np.argsort(at), *range(3, split.ndim))
        return (split.transpose(back).reshape(w.shape),)

    return Transform(ours, theirs)


def first_channels(kept: int, of: int) -> Transform:
    """The rows of the first `kept` of `of` channels, the channel fastest: what a learned variance
    adds is left out. Back, its rows are zeros."""

    def ours(w: np.ndarray) -> np.ndarray:
        return w.reshape(-1, of, *w.shape[1:])[:, :kept].reshape(-1, *w.shape[1:])

    def theirs(w: np.ndarray) -> tuple[np.ndarray, ...]:
        split = w.reshape(-1, kept, *w.shape[1:])
        wide = np.zeros((split.shape[0], of, *w.shape[1:]), w.dtype)
        wide[:, :kept] = split
        return (wide.reshape(-1, *w.shape[1:]),)

    return same if kept == of else Transform(ours, theirs)
