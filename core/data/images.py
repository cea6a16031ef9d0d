"""A folder of pictures, kept in memory if they fit and read on demand if not."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from core.data.checks import at_least, existing_folder
from core.data.dataset import Dataset
from core.errors import UserError

_SUFFIXES = (".png", ".jpg", ".jpeg")
_THREADS = 8


@dataclass(frozen=True)
class ImageFiles:
    """Pictures of one shape, read when asked for: the source of a lazy `Dataset`."""

    files: Sequence[Path]
    size: int
    gray: bool
    shape: tuple[int, ...]

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "height width channels"]:
        """Reads file `index`. Raises `UserError` if it is unreadable or of another shape."""
        from core.data.picture import read_image  # with Pillow

        file = self.files[index]
        image = read_image(file, self.size, self.gray)
        if image.shape != self.shape:
            height, width = image.shape[:2]
            raise UserError(
                f"{file}: {width} x {height} pixels where {self.files[0].name} has "
                f"{self.shape[1]} x {self.shape[0]}; bring all to one size with --data.size N"
            )
        return image

    def read_all(self) -> UInt8[np.ndarray, "n height width channels"]:
        """Reads every file, on several threads."""
        images = np.empty((len(self), *self.shape), np.uint8)

        def read(index: int) -> None:
            images[index] = self[index]

        with ThreadPoolExecutor(_THREADS) as pool:
            for _ in pool.map(read, range(len(self))):
                pass
        return images


def _pictures(folder: Path) -> list[Path]:
    found = (f for f in folder.iterdir() if f.suffix.lower() in _SUFFIXES and f.name[0] != ".")
    return sorted(f for f in found if f.is_file())


def find_images(
    folder: Path,
) -> tuple[list[Path], Int32[np.ndarray, " n"] | None, tuple[str, ...]]:
    """Files, labels and class names of a folder, in the order of their names.

    Pictures lie either in the folder itself (then there are no labels) or in its sub-folders, each
    of which is a class. Raises `UserError` if there are none, if a class has none, or if both.
    """
    flat = _pictures(folder)
    below = sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != ".")
    classes = {sub.name: _pictures(sub) for sub in below}
    if flat and any(classes.values()):
        raise UserError(
            f"{folder}: pictures beside sub-folders of pictures; put all of them in sub-folders "
            f"(one a class) or none"
        )
    if flat:
        return flat, None, ()
    if not any(classes.values()):
        raise UserError(f"{folder}: no .png or .jpg files in it or in its sub-folders; add some")
    for name, files in classes.items():
        if not files:
            raise UserError(f"{folder / name}: no .png or .jpg files in this class; remove it")
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    files = [file for group in classes.values() for file in group]
    return files, labels.astype(np.int32), tuple(classes)


@dataclass(frozen=True)
class ImagesData:
    """A folder of PNG and JPEG files, one sub-folder a class, or none and no labels.

    Pictures are turned upright as their EXIF data say; transparent parts become white.
    """

    path: str = ""
    """Folder of pictures, or of one sub-folder of pictures a class."""
    size: int = 0
    """Scale the shorter side to this, cut the middle square; 0: all have one size already."""
    gray: bool = False
    """One gray channel instead of red, green and blue."""
    resident_mb: int = 2048
    """Megabytes of pictures to keep in memory; if they need more, each is read when it is due."""

    def load(self) -> Dataset:
        """Finds the files and, if they fit, reads them. Raises `UserError` for unusable ones."""
        from core.data.picture import read_image  # with Pillow

        at_least(self.size, 0, "--data.size")
        files, labels, names = find_images(existing_folder(self.path, "PNG or JPEG files"))
        shape = read_image(files[0], self.size, self.gray).shape
        source = ImageFiles(files, self.size, self.gray, shape)
        fits = len(files) * int(np.prod(shape)) <= self.resident_mb * 2**20
        return Dataset(
            name="images",
            kind="image",
            shape=shape,
            examples=source.read_all() if fits else np.empty((0, *shape), np.uint8),
            labels=labels,
            num_classes=len(names),
            class_names=names,
            levels=255,
            source=None if fits else source,
        )
