"""CIFAR-10 in its official binary form."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from core.data.checks import class_labels, existing_folder, fits_memory, one_of
from core.data.dataset import Dataset
from core.data.subset import of_classes
from core.errors import UserError

CLASS_NAMES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

_FILES = {
    "train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
    "test": ("test_batch.bin",),
}
_RECORD = 1 + 3 * 32 * 32


def _records(file: Path) -> UInt8[np.ndarray, "n 3073"]:
    fits_memory(file.stat().st_size, file)
    raw = np.fromfile(file, np.uint8)
    if raw.size == 0 or raw.size % _RECORD:
        raise UserError(
            f"{file}: {raw.size} bytes, not a whole number of {_RECORD}-byte records; "
            f"the file is truncated or of another format, fetch it again"
        )
    records = raw.reshape(-1, _RECORD)
    class_labels(records[:, 0], len(records), 10, file)
    return records


@dataclass(frozen=True)
class Cifar10Data:
    """CIFAR-10, 32 x 32 x 3, 10 classes, from the folder `cifar-10-batches-bin`.

    A record is one byte of label, then the red, green and blue planes, row by row. Those of the
    five training files that exist are read. Source: A. Krizhevsky, "Learning Multiple Layers of
    Features from Tiny Images", 2009.
    """

    path: str = ""
    """Folder of data_batch_1.bin to data_batch_5.bin and test_batch.bin."""
    split: Literal["train", "test"] = "train"
    """Which images: train (all the batches that are there) or test."""
    flip: bool = False
    """Mirror pictures left to right, each time with probability 1/2, in training."""
    classes: tuple[str, ...] = ()
    """Only these classes, by name, in this order; of one alone there are no labels."""

    def load(self) -> Dataset:
        """Reads one split. Raises `UserError` for missing or damaged files."""
        names = _FILES[one_of(self.split, tuple(_FILES), "--data.split")]
        folder = existing_folder(self.path, "cifar-10-batches-bin")
        files = [folder / name for name in names if (folder / name).is_file()]
        if not files:
            raise UserError(
                f"{folder / names[0]}: no such file; --data.path needs the folder "
                f"cifar-10-batches-bin of the binary version"
            )
        records = np.concatenate([_records(file) for file in files])
        planes = records[:, 1:].reshape(-1, 3, 32, 32)
        whole = Dataset(
            name="cifar10",
            kind="image",
            shape=(32, 32, 3),
            examples=np.ascontiguousarray(planes.transpose(0, 2, 3, 1)),
            labels=records[:, 0].astype(np.int32),
            num_classes=10,
            class_names=CLASS_NAMES,
            levels=255,
            flip=self.flip,
        )
        return of_classes(whole, self.classes)
