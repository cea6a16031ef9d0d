"""Examples as small pictures in bytes: images of any number of channels, series as curves."""

import math

import numpy as np
from jaxtyping import Float, UInt8

WIDE, HIGH = 120, 72
"""Pixels of the picture of a series."""
_FINE = 3
"""The picture of a series is drawn so many times larger, then averaged: smooth edges."""
_INK = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0))
"""Colours of the channels, those of Okabe and Ito, in turn."""

_FRAME = 215
"""Light gray, of lines and of frames."""


def in_bytes(x: Float[np.ndarray, "..."], span: float = 1.0) -> UInt8[np.ndarray, "..."]:
    """`round(127.5 (x / span + 1))`, clipped to 0..255."""
    return np.clip(np.rint(127.5 * (x / span + 1)), 0, 255).astype(np.uint8)


def panels(
    images: UInt8[np.ndarray, "*n height width channels"],
) -> UInt8[np.ndarray, "*n high wide colours"]:
    """Images of one or three channels as they are; of others each channel in gray, side by side.

    The channels fill a grid as square as it gets, row by row, with a line of one pixel between;
    7 channels are 3, 3 and 1. Lines and places without a channel are light gray, so that the
    panels of one image stay together.
    """
    *n, height, width, channels = images.shape
    if channels in (1, 3):
        return images
    cols = math.ceil(math.sqrt(channels))
    rows = math.ceil(channels / cols)
    page = np.full((*n, rows * (height + 1) - 1, cols * (width + 1) - 1, 1), _FRAME, np.uint8)
    for k in range(channels):
        row, column = divmod(k, cols)
        top, left = row * (height + 1), column * (width + 1)
        page[..., top : top + height, left : left + width, 0] = images[..., k]
    return page


def curves(
    series: Float[np.ndarray, "*n length channels"], span: float = 1.0
) -> UInt8[np.ndarray, "*n high wide 3"]:
    """Series as curves, one colour a channel, from `-span` at the bottom to `span` at the top.

    The gray line within the frame is 0. What lies outside runs along the edge.
    """
    *n, length, channels = series.shape
    flat = series.reshape(-1, length, channels)
    wide, high = WIDE * _FINE, HIGH * _FINE
    page = np.full((len(flat), high, wide, 3), 255, np.float32)
    page[:, [*range(_FINE), *range(high - _FINE, high)]] = _FRAME
    page[:, :, [*range(_FINE), *range(wide - _FINE, wide)]] = _FRAME
    page[:, high // 2 - _FINE // 2 : high // 2 + _FINE // 2 + 1] = _FRAME
    place = np.linspace(0, length - 1, wide + 1)
    for k in range(channels):
        height = _at(np.clip(flat[..., k] / span, -1, 1), place)
        y = (high - 2 * _FINE) * (1 - height) / 2 + _FINE
        low, top = np.minimum(y[:, :-1], y[:, 1:]), np.maximum(y[:, :-1], y[:, 1:])
        rows = np.arange(high)[None, :, None]
        inside = (rows >= low[:, None] - _FINE / 2) & (rows <= top[:, None] + _FINE / 2)
        page[inside] = _INK[k % len(_INK)]
    small = page.reshape(len(flat), HIGH, _FINE, WIDE, _FINE, 3).mean(axis=(2, 4))
    return np.rint(small).astype(np.uint8).reshape(*n, HIGH, WIDE, 3)


def _at(
    values: Float[np.ndarray, "n length"], place: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "n m"]:
    """The values at places between 0 and `length - 1`, by straight lines."""
    last = values.shape[1] - 1
    before = np.minimum(place.astype(int), last)
    after, share = np.minimum(before + 1, last), place - before
    return (1 - share) * values[:, before] + share * values[:, after]
