"""MNIST and its relatives: a folder of four idx files."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from core.data.checks import at_least, class_labels, existing_folder, fits_memory, one_of
from core.data.dataset import Dataset
from core.data.subset import of_classes
from core.errors import UserError

_PREFIX = {"train": "train", "test": "t10k"}


def _find(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise UserError(f"{folder / name}: no such file, nor {name}.gz; --data.path needs all four")


def _content(file: Path, start: int) -> bytes:
    """The bytes of a file, unpacked. Of a packed one no more is unpacked than its header, the first
    `start` bytes, says that there is, and one byte."""
    if file.suffix != ".gz":
        return file.read_bytes()
    try:
        with gzip.open(file) as stream:
            head = stream.read(start)
            sizes = np.frombuffer(head[4 : len(head) // 4 * 4], ">u4")
            size = math.prod(map(int, sizes))
            fits_memory(size, file)
            return head + stream.read(size + 1)
    except (EOFError, OSError, ValueError, zlib.error):
        raise UserError(f"{file}: truncated or damaged gzip file; fetch it again") from None


def read_idx(file: Path, ndim: int) -> UInt8[np.ndarray, "..."]:
    """The array of bytes in an idx file, gzipped or not, of `ndim` axes.

    An idx file is two zero bytes, 8 for "unsigned byte", `ndim`, then each size as a big-endian
    32-bit number, then the values in C order. Raises `UserError` if the file is not so.
    """
    start = 4 + 4 * ndim
    raw = _content(file, start)
    if raw[:4] != bytes((0, 0, 8, ndim)):
        raise UserError(
            f"{file}: starts with {raw[:4].hex() or 'nothing'} where idx files of {ndim} axes "
            f"start with 000008{ndim:02x}; give the original file"
        )
    if len(raw) < start:
        raise UserError(f"{file}: truncated within its header; fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(raw[4:start], ">u4"))
    if len(raw) - start != math.prod(shape):
        raise UserError(
            f"{file}: {len(raw) - start} bytes of values where its header says "
            f"{' x '.join(map(str, shape))}; the file is truncated or damaged, fetch it again"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


@dataclass(frozen=True)
class IdxData:
    """MNIST, Fashion-MNIST and others in the four files of Y. LeCun's idx format.

    Files `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`, each with or without `.gz`. Gray images `(height, width, 1)`.
    """

    path: str = ""
    """Folder of the four idx files."""
    split: Literal["train", "test"] = "train"
    """Which images: train, or test (the files whose names start with t10k)."""
    num_classes: int = 10
    """Number of classes; labels are 0 to one less."""
    flip: bool = False
    """Mirror pictures left to right, each time with probability 1/2, in training."""
    classes: tuple[str, ...] = ()
    """Only these classes, by name, in this order; of one alone there are no labels."""

    def load(self) -> Dataset:
        """Reads one split. Raises `UserError` for missing, damaged or inconsistent files."""
        prefix = _PREFIX[one_of(self.split, tuple(_PREFIX), "--data.split")]
        at_least(self.num_classes, 1, "--data.num-classes")
        folder = existing_folder(self.path, "the four idx files")
        image_file = _find(folder, f"{prefix}-images-idx3-ubyte")
        label_file = _find(folder, f"{prefix}-labels-idx1-ubyte")
        images = read_idx(image_file, 3)
        if images.size == 0:
            raise UserError(f"{image_file}: holds no images; give the original file")
        labels = class_labels(read_idx(label_file, 1), len(images), self.num_classes, label_file)
        whole = Dataset(
            name="idx",
            kind="image",
            shape=(*images.shape[1:], 1),
            examples=images[..., None],
            labels=labels,
            num_classes=self.num_classes,
            class_names=tuple(str(k) for k in range(self.num_classes)),
            levels=255,
            flip=self.flip,
        )
        return of_classes(whole, self.classes)
