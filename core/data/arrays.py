"""Examples that a user saved with NumPy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Shaped

from core.data.checks import all_finite, at_least, class_labels, existing_file, fits_memory, one_of
from core.data.dataset import Dataset
from core.errors import UserError

_EXAMPLE_KEYS = ("images", "x")
_LABEL_KEYS = ("labels", "y")
VALUES = ("auto", "signed", "unit")
MOST_STRETCHED = 8
"""An array (n, height, width) with one side so many times the other is taken for a mistake."""
_WHAT = "an .npz or .npy file of examples"


def read_arrays(file: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of an `.npz` file by name, or the one of an `.npy` file under the name `""`.

    Of an `.npz` only the known names are read. Nothing pickled is ever loaded. Raises `UserError`
    for a file of another format, a damaged one, or one with pickled objects.
    """
    with file.open("rb") as stream:
        start = stream.read(6)
    if start[:4] != b"PK\x03\x04" and start != b"\x93NUMPY":
        raise UserError(f"{file}: not an .npz or .npy file; write one with numpy.savez")
    try:
        with file.open("rb") as stream:
            if start == b"\x93NUMPY":
                _check_promise(stream, file.stat().st_size)
                stream.seek(0)
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            known = [key for key in loaded.files if key in _EXAMPLE_KEYS + _LABEL_KEYS]
            for key in known:
                _check_member(loaded.zip, key, file)
            return {key: loaded[key] for key in known}
    except UserError:
        raise
    except Exception as error:  # NumPy and zipfile raise nearly anything for damaged bytes
        if "Object arrays" in str(error):
            raise UserError(
                f"{file}: holds pickled Python objects, which are never loaded; "
                f"save plain arrays of numbers, all examples of one shape"
            ) from None
        if "encrypted" in str(error):
            raise UserError(f"{file}: is encrypted; write it without a password") from None
        raise UserError(f"{file}: truncated or damaged; write it again") from None


def _check_member(archive: Any, key: str, file: Path) -> None:
    """Raises where an array of an archive is larger than the memory, or than what is stored."""
    names = archive.namelist()
    info = archive.getinfo(f"{key}.npy" if f"{key}.npy" in names else key)
    fits_memory(info.file_size, file)
    with archive.open(info) as stream:
        _check_promise(stream, info.file_size)


def _check_promise(stream: Any, size: int) -> None:
    """Raises `ValueError` where the header of an array promises more bytes than there are: room for
    them would be made before that is noticed."""
    version = np.lib.format.read_magic(stream)
    head = np.lib.format.read_array_header_1_0
    shape, _, dtype = (head if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > size:
        raise ValueError("more is promised than there is")


def _pick(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], keys: tuple[str, ...], file: Path
) -> Shaped[np.ndarray, "..."] | None:
    found = [key for key in ("", *keys) if key in arrays]
    if len(found) > 1:
        raise UserError(f"{file}: holds both {found[0]} and {found[1]}; keep one of them")
    return arrays[found[0]] if found else None


def _images(x: Shaped[np.ndarray, "n height width *channels"], file: Path, values: str):
    if x.ndim == 3:
        _wide_enough(x, file)
        x = x[..., None]
    if x.shape[-1] not in (1, 3):
        first = x.shape[1] in (1, 3)
        instead = (
            "channels come last: numpy.moveaxis(x, 1, -1)"
            if first
            else "give (height, width), (height, width, 1) or (height, width, 3)"
        )
        raise UserError(f"{file}: images of shape {x.shape[1:]}; {instead}")
    return x if x.dtype == np.uint8 else _in_range(x, file, values)


def _wide_enough(x: Shaped[np.ndarray, "n height width"], file: Path) -> None:
    """Raises `UserError` for strips: nearly always series of numbers, or one picture alone."""
    height, width = x.shape[1:]
    if max(height, width) < MOST_STRETCHED * min(height, width):
        return
    series = f"numpy.reshape(x, ({len(x)}, {height * width}))"
    alone = f", one colour picture alone as x[None] of shape {(1, *x.shape)}" if width == 3 else ""
    raise UserError(
        f"{file}: shape {x.shape} would be {len(x)} gray pictures of {height} x {width} pixels; "
        f"give series of numbers as points, {series}{alone}, and pictures of this shape with their "
        "channel, x[..., None]"
    )


def _in_range(
    x: Float32[np.ndarray, " n *shape"], file: Path, values: str
) -> Float32[np.ndarray, " n *shape"]:
    """The images as network values, in [-1, 1]; `values` is the flag's, or empty in Python."""
    lowest = 0.0 if values == "unit" else -1.0
    bad = ((x > 1 + 1e-3) | (x < lowest - 1e-3)).reshape(len(x), -1).any(axis=1)
    if bad.any():
        raise UserError(
            f"{file}: image {int(bad.argmax())} has values outside [{lowest:g}, 1], from "
            f"{x.min():.4g} to {x.max():.4g} over all; "
            f"scale the images to [-1, 1] or store them as uint8"
        )
    if values == "unit":
        return 2 * x - 1
    if values != "signed" and x.min() >= 0:
        flags = (
            "; or say --data.values unit for [0, 1], --data.values signed to take them as they are"
            if values
            else ""
        )
        raise UserError(
            f"{file}: images with values from {x.min():.4g} to {x.max():.4g}, where -1 is black "
            f"and 1 is white, would be washed out; give 2 * x - 1 for those in [0, 1]{flags}"
        )
    return x


def _examples(
    x: Shaped[np.ndarray, "..."], file: Path, values: str = ""
) -> Shaped[np.ndarray, " n *shape"]:
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise UserError(f"{file}: examples of type {x.dtype}; give uint8 images or floats")
    ranks = (3, 4) if x.dtype == np.uint8 else (2, 3, 4)
    if x.ndim not in ranks:
        raise UserError(
            f"{file}: examples of type {x.dtype} and shape {x.shape}; give uint8 or float images "
            f"(n, height, width, channels) or float points (n, dim)"
        )
    if x.size == 0:
        raise UserError(f"{file}: holds no examples (shape {x.shape}); give at least one")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):
            x = all_finite(x.astype(np.float32), file)
    return x if x.ndim == 2 else _images(x, file, values)


def from_arrays(
    x: Shaped[np.ndarray, " n *shape"],
    labels: Shaped[np.ndarray, " m"] | None = None,
    num_classes: int = 0,
) -> Dataset:
    """A data set of arrays in memory, of the types and shapes that `ArraysData` reads.

    Raises `UserError` for values, types or shapes that do not fit.
    """
    examples = _examples(np.asarray(x), Path("data"))
    if labels is None:
        return _dataset(examples, None, 0)
    found = class_labels(np.asarray(labels), len(examples), num_classes, Path("labels"))
    return _dataset(examples, found, num_classes or int(found.max()) + 1)


def _dataset(x: np.ndarray, labels: np.ndarray | None, num_classes: int) -> Dataset:
    notes = () if labels is None else _without_example(labels, num_classes)
    return Dataset(
        name="arrays",
        kind="points" if x.ndim == 2 else "image",
        shape=x.shape[1:],
        examples=x,
        labels=labels,
        num_classes=num_classes,
        class_names=tuple(str(k) for k in range(num_classes)),
        levels=255 if x.dtype == np.uint8 else None,
        notes=notes + _far_from_noise(x),
    )


def _without_example(labels: np.ndarray, num_classes: int) -> tuple[str, ...]:
    """A line on the classes that have no example, of which the network learns nothing."""
    counts = np.bincount(labels, minlength=num_classes)
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return ()
    shown = ", ".join(map(str, empty[:4])) + (", ..." if len(empty) > 4 else "")
    what = "class has" if len(empty) == 1 else "classes have"
    return (f"{len(empty):,} {what} no example ({shown}), so nothing is learned of it",)


def _far_from_noise(x: np.ndarray) -> tuple[str, ...]:
    """A line on points whose scale is far from that of the noise, 1."""
    if x.ndim != 2:
        return ()
    largest = float(np.abs(x).max())
    if 0.05 <= largest <= 100:
        return ()
    return (
        f"warning: values of up to {largest:.4g}, where the noise has standard deviation 1; "
        "training goes better with points that are scaled to about 1",
    )


@dataclass(frozen=True)
class ArraysData:
    """Images or points from NumPy files: an `.npz`, or an `.npy` and maybe another of labels.

    An `.npz` holds the examples as `images` or `x` and, if there are labels, `labels` or `y`.
    Examples are uint8 images or float images in [-1, 1], `(n, height, width)` or
    `(n, height, width, channels)` with 1 or 3 channels, or float points `(n, dim)`.
    """

    path: str = ""
    """File of the examples, .npz or .npy."""
    labels: str = ""
    """An .npy file of labels, one whole number an example; none if empty."""
    num_classes: int = 0
    """Number of classes; 0 means the highest label plus one."""
    values: Literal["auto", "signed", "unit"] = "auto"
    """Float images: signed as they are in [-1, 1], unit from [0, 1]; auto is signed, and refuses
    images without a negative value."""

    def load(self) -> Dataset:
        """Reads the files. Raises `UserError` for values, types or shapes that do not fit."""
        at_least(self.num_classes, 0, "--data.num-classes")
        file = existing_file(self.path, _WHAT, "--data.path")
        arrays = read_arrays(file)
        stored = _pick(arrays, _EXAMPLE_KEYS, file)
        if stored is None:
            raise UserError(f"{file}: no array named images or x; save the examples under one")
        x = _examples(stored, file, one_of(self.values, VALUES, "--data.values"))
        return _dataset(x, *self._labels(arrays, len(x), file))

    def _labels(
        self, arrays: Mapping[str, Shaped[np.ndarray, "..."]], n: int, file: Path
    ) -> tuple[Shaped[np.ndarray, " n"] | None, int]:
        inside = {key: value for key, value in arrays.items() if key}
        if self.labels:
            file = existing_file(self.labels, "an .npy file of labels", "--data.labels")
            inside = read_arrays(file)
        found = _pick(inside, _LABEL_KEYS, file)
        if found is None and not self.labels:
            return None, 0
        if found is None:
            raise UserError(f"{file}: no array named labels or y; save the labels under one")
        labels = class_labels(found, n, self.num_classes, file, "--data.num-classes")
        return labels, self.num_classes or int(labels.max()) + 1
