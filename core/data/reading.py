"""How arrays are understood: which axes are what, and which values become -1 and 1."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Shaped

from core.data.checks import all_finite, one_of
from core.data.scale import Scale, evenly, extremes, from_range, standardising
from core.data.spec import RANKS, Kind
from core.errors import UserError, require

Kinds = Literal["auto", "points", "series", "image"]
Values = Literal["auto", "signed", "unit", "range", "standard"]
VALUES = ("auto", "signed", "unit", "range", "standard")
KINDS = ("auto", "points", "series", "image")
MOST_STRETCHED = 8
"""An array (n, height, width) with one side so many times the other is taken for a mistake."""
_SHAPES = {
    "points": "(n, numbers)",
    "series": "(n, length, channels) or (n, length)",
    "image": "(n, height, width, channels) or (n, height, width)",
}


@dataclass(frozen=True)
class Reading:
    """The flags of a data set of arrays; see `core.data.arrays.ArraysData`. `named` says whether
    messages name flags, which Python has not."""

    kind: str = "auto"
    values: str = "auto"
    range: tuple[float, float] | None = None
    flip: bool = False
    named: bool = True

    def __post_init__(self):
        one_of(self.kind, KINDS, "--data.kind")
        one_of(self.values, VALUES, "--data.values")
        if self.range is not None:
            low, high = self.range
            require(low < high, f"--data.range {low:g} {high:g}: the first must be the lower")
            require(
                self.values in ("auto", "range"),
                f"--data.range says what becomes -1 and 1; leave out --data.values {self.values}",
            )

    @property
    def rescales(self) -> bool:
        """Whether the flags say which values become which, so that any numbers are taken."""
        return self.range is not None or self.values in ("range", "standard")

    def or_flag(self, words: str) -> str:
        """Advice that names a flag, where there are flags."""
        return words if self.named else ""


@dataclass(frozen=True)
class Understood:
    """Examples `(n, *shape)` of one kind, how their values become network values, and what to tell
    the user of it."""

    x: Shaped[np.ndarray, " n *shape"]
    kind: Kind
    levels: int | None
    scale: Scale
    notes: tuple[str, ...] = ()


def understood(x: Shaped[np.ndarray, "..."], reading: Reading, where: Path | str) -> Understood:
    """The examples as they are meant. Raises `UserError` for types, shapes and values that do not
    fit, and for what is nearly always a mistake."""
    _check_type(x, reading, where)
    kind = _kind(x, reading, where)
    if x.size == 0:
        raise UserError(f"{where}: holds no examples (shape {x.shape}); give at least one")
    if reading.flip and kind != "image":
        raise UserError(f"--data.flip mirrors pictures, and {where} holds {kind}; leave it out")
    if np.issubdtype(x.dtype, np.floating):
        with np.errstate(over="ignore"):
            x = all_finite(x.astype(np.float32), where)
    notes: tuple[str, ...] = ()
    if kind == "image" and x.ndim == 3:
        if reading.kind == "auto" and x.dtype != np.uint8:
            notes = (f"taken as gray pictures, (n, height, width){reading.or_flag(_SERIES_FLAG)}",)
        x = x[..., None]
    elif kind == "series":
        x = x[..., None] if x.ndim == 2 else x
        notes = _channels_last(x)
    x, levels, scale, more = _with_values(x, kind, reading, where)
    return Understood(x, kind, levels, scale, notes + more)


_SERIES_FLAG = "; --data.kind series takes (n, length, channels)"


def shape_of(x: Shaped[np.ndarray, "..."], reading: Reading, where: Path | str) -> tuple[int, ...]:
    """The shape of one example, by the shape and type of the array alone. Raises as
    `understood`."""
    kind, row = _kind(x, reading, where), x.shape[1:]
    return row if len(row) == RANKS[kind] else (*row, 1)


def _check_type(x: np.ndarray, reading: Reading, where: Path | str) -> None:
    numbers = np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)
    rescaled = reading.rescales or reading.kind == "series"
    floating = np.issubdtype(x.dtype, np.floating) or x.dtype == np.uint8
    if not (numbers if rescaled else floating):
        ways = reading.or_flag(
            ", or say which values become -1 and 1 by --data.range LO HI or --data.values standard"
        )
        raise UserError(
            f"{where}: examples of type {x.dtype}; give uint8 images or floats"
            f"{ways if numbers else ''}"
        )


def _kind(x: np.ndarray, reading: Reading, where: Path | str) -> Kind:
    """What the axes mean. Raises `UserError` for a shape that is none, or is likely a mistake."""
    if reading.kind != "auto":
        least = RANKS[reading.kind] + 1
        if x.ndim not in (least, least - (reading.kind != "points")):
            raise UserError(
                f"{where}: shape {x.shape}, where --data.kind {reading.kind} takes "
                f"{_SHAPES[reading.kind]}"
            )
        return reading.kind  # pyright: ignore[reportReturnType]
    ranks = (3, 4) if x.dtype == np.uint8 and not reading.rescales else (2, 3, 4)
    if x.ndim not in ranks:
        raise UserError(
            f"{where}: examples of type {x.dtype} and shape {x.shape}; give uint8 or float images "
            f"(n, height, width, channels) or float points (n, dim)"
        )
    if x.ndim == 2:
        return "points"
    if x.ndim == 3:
        _wide_enough(x, reading, where)
    elif x.shape[1] in (1, 3) and x.shape[1] < x.shape[3]:
        raise UserError(
            f"{where}: images of shape {x.shape[1:]}; channels come last: "
            f"numpy.moveaxis(x, 1, -1){reading.or_flag(', or say --data.kind image')}"
        )
    return "image"


def _wide_enough(x: np.ndarray, reading: Reading, where: Path | str) -> None:
    """Raises `UserError` for strips: nearly always series of numbers, or one picture alone."""
    height, width = x.shape[1:]
    if max(height, width) < MOST_STRETCHED * min(height, width):
        return
    alone = f", one colour picture alone as x[None] of shape {(1, *x.shape)}" if width == 3 else ""
    series = (
        f"say --data.kind series where they are series of {width} channels"
        if reading.named
        else f"give series of numbers as points, numpy.reshape(x, ({len(x)}, {height * width}))"
    )
    raise UserError(
        f"{where}: shape {x.shape} would be {len(x)} gray pictures of {height} x {width} pixels; "
        f"{series}{alone}, and give pictures of this shape with their channel, x[..., None]"
    )


def _channels_last(x: np.ndarray) -> tuple[str, ...]:
    _, length, channels = x.shape
    if channels <= length:
        return ()
    return (
        f"warning: series of length {length} with {channels} channels; channels come last, "
        "numpy.moveaxis(x, 1, -1) where they came first",
    )


def _with_values(
    x: np.ndarray, kind: Kind, reading: Reading, where: Path | str
) -> tuple[np.ndarray, int | None, Scale, tuple[str, ...]]:
    """The examples as they are stored, the highest byte where they are bytes, and their scale."""
    values = "range" if reading.range is not None else reading.values
    if values == "auto" and kind == "series":
        values = "standard"
    if values == "standard":
        return _compact(x), None, standardising(x), ()
    if values == "range":
        low, high = reading.range or extremes(x)
        require(low < high, f"{where}: all values are {low:g}; there is nothing to learn of them")
        scale = from_range(low, high, x.shape[-1])
        return _compact(x), None, scale, _outside(x, low, high)
    if kind == "image" and x.dtype == np.uint8:
        return x, 255, Scale(), ()
    if kind != "image" and values == "unit":
        raise UserError("--data.values unit is for images; say --data.range 0 1")
    if kind == "image":
        return _in_range(x, where, reading), None, Scale(), ()
    return x, None, Scale(), _far_from_noise(x, reading)


def _compact(x: np.ndarray) -> np.ndarray:
    """Integers of at most 16 bits as they are, all else as float32."""
    return x if x.dtype.itemsize <= 2 and x.dtype.kind in "iu" else x.astype(np.float32)


def _outside(x: np.ndarray, low: float, high: float) -> tuple[str, ...]:
    few = x[evenly(len(x), max(2**24 // max(x[0].size, 1), 1))]
    share = float(np.mean((few < low) | (few > high)))
    if share == 0:
        return ()
    return (f"warning: {share:.2%} of the values lie outside {low:g} to {high:g}",)


def _in_range(
    x: Float32[np.ndarray, " n *shape"], where: Path | str, reading: Reading
) -> Float32[np.ndarray, " n *shape"]:
    """The images as network values, in [-1, 1]."""
    lowest = 0.0 if reading.values == "unit" else -1.0
    bad = ((x > 1 + 1e-3) | (x < lowest - 1e-3)).reshape(len(x), -1).any(axis=1)
    if bad.any():
        ways = reading.or_flag(", or say --data.range LO HI or --data.values standard")
        raise UserError(
            f"{where}: image {int(bad.argmax())} has values outside [{lowest:g}, 1], from "
            f"{x.min():.4g} to {x.max():.4g} over all; "
            f"scale the images to [-1, 1] or store them as uint8{ways}"
        )
    if reading.values == "unit":
        return 2 * x - 1
    if reading.values != "signed" and x.min() >= 0:
        flags = reading.or_flag(
            "; or say --data.values unit for [0, 1], --data.values signed to take them as they are"
        )
        raise UserError(
            f"{where}: images with values from {x.min():.4g} to {x.max():.4g}, where -1 is black "
            f"and 1 is white, would be washed out; give 2 * x - 1 for those in [0, 1]{flags}"
        )
    return x


def _far_from_noise(x: np.ndarray, reading: Reading) -> tuple[str, ...]:
    """A line on points whose scale is far from that of the noise, 1."""
    largest = float(np.abs(x).max())
    if 0.05 <= largest <= 100:
        return ()
    ways = reading.or_flag(" (--data.values standard, which samples undo)")
    return (
        f"warning: values of up to {largest:.4g}, where the noise has standard deviation 1; "
        f"training goes better with points that are scaled to about 1{ways}",
    )
