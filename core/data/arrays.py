"""Examples that a user saved with NumPy."""

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped

from core.data.checks import all_finite, at_least, class_labels, existing_file
from core.data.dataset import Dataset
from core.errors import UserError

_EXAMPLE_KEYS = ("images", "x")
_LABEL_KEYS = ("labels", "y")
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
            loaded = np.load(stream, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            known = [key for key in loaded.files if key in _EXAMPLE_KEYS + _LABEL_KEYS]
            return {key: loaded[key] for key in known}
    except (ValueError, EOFError, OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        if "Object arrays" in str(error):
            raise UserError(
                f"{file}: holds pickled Python objects, which are never loaded; "
                f"save plain arrays of numbers, all examples of one shape"
            ) from None
        raise UserError(f"{file}: truncated or damaged; write it again") from None


def _pick(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], keys: tuple[str, ...], file: Path
) -> Shaped[np.ndarray, "..."] | None:
    found = [key for key in ("", *keys) if key in arrays]
    if len(found) > 1:
        raise UserError(f"{file}: holds both {found[0]} and {found[1]}; keep one of them")
    return arrays[found[0]] if found else None


def _images(
    x: Shaped[np.ndarray, "n height width *channels"], file: Path
) -> Shaped[np.ndarray, "n height width channels"]:
    x = x[..., None] if x.ndim == 3 else x
    if x.shape[-1] not in (1, 3):
        raise UserError(
            f"{file}: images of shape {x.shape[1:]}; give (height, width), "
            f"(height, width, 1) or (height, width, 3)"
        )
    return x if x.dtype == np.uint8 else _in_range(x, file)


def _in_range(x: Float32[np.ndarray, " n *shape"], file: Path) -> Float32[np.ndarray, " n *shape"]:
    bad = (np.abs(x) > 1 + 1e-3).reshape(len(x), -1).any(axis=1)
    if bad.any():
        raise UserError(
            f"{file}: image {int(bad.argmax())} has values outside [-1, 1]; "
            f"scale the images to [-1, 1] or store them as uint8"
        )
    return x


def _examples(x: Shaped[np.ndarray, "..."], file: Path) -> Shaped[np.ndarray, " n *shape"]:
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
    return x if x.ndim == 2 else _images(x, file)


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
    return Dataset(
        name="arrays",
        kind="points" if x.ndim == 2 else "image",
        shape=x.shape[1:],
        examples=x,
        labels=labels,
        num_classes=num_classes,
        class_names=tuple(str(k) for k in range(num_classes)),
        levels=255 if x.dtype == np.uint8 else None,
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

    def load(self) -> Dataset:
        """Reads the files. Raises `UserError` for values, types or shapes that do not fit."""
        at_least(self.num_classes, 0, "--data.num-classes")
        file = existing_file(self.path, _WHAT, "--data.path")
        arrays = read_arrays(file)
        stored = _pick(arrays, _EXAMPLE_KEYS, file)
        if stored is None:
            raise UserError(f"{file}: no array named images or x; save the examples under one")
        x = _examples(stored, file)
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
        labels = class_labels(found, n, self.num_classes, file)
        return labels, self.num_classes or int(labels.max()) + 1
