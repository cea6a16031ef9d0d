"""A folder of pictures, kept in memory if they fit and read on demand if not."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from core.data.checks import at_least, existing_folder, one_of
from core.data.dataset import Dataset
from core.data.folders import KINDS, find_images
from core.errors import UserError, require

_THREADS = 8


@dataclass(frozen=True)
class ImageFiles:
    """Pictures of one shape, read when asked for: the source of a lazy `Dataset`."""

    files: Sequence[Path]
    size: int
    gray: bool
    shape: tuple[int, ...]
    upper_byte: bool = False
    crop: str = "lanczos"

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "height width channels"]:
        """Reads file `index`. Raises `UserError` if it is unreadable or of another shape."""
        from core.data.picture import read_image  # with Pillow

        file = self.files[index]
        image = read_image(file, self.size, self.gray, self.upper_byte, self.crop)
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


@dataclass(frozen=True)
class ImagesData:
    """A folder of PNG, JPEG, WebP, TIFF, BMP, GIF and AVIF files, one sub-folder a class, or none
    and no labels.

    A class may have sub-folders of its own, to any depth. Pictures are turned upright as their EXIF
    data say; transparent parts become white; of several frames or pages the first is taken. What
    else lies there is left out, and the run says so.
    """

    path: str = ""
    """Folder of pictures, or of one sub-folder of pictures a class."""
    size: int = 0
    """Scale the shorter side to this, cut the middle square; 0: all have one size already."""
    crop: Literal["lanczos", "adm"] = "lanczos"
    """How --data.size scales: lanczos in one go, or adm: halved by means while twice as large, then
    bicubic, as in the code of ADM, EDM and DiT, for figures that are compared with theirs."""
    flip: bool = False
    """Mirror pictures left to right, each time with probability 1/2, in training."""
    gray: bool = False
    """One gray channel instead of red, green and blue."""
    resident_mb: int = 2048
    """Megabytes of pictures to keep in memory; if they need more, each is read when it is due."""
    upper_byte: bool = False
    """Read pictures of 16 bits a channel by the upper 8 of them, where they use all 16."""

    def peek(self) -> tuple[int, ...]:
        """The shape of the first picture. Raises `UserError` as `load`."""
        from core.data.picture import read_image  # with Pillow

        if self.size:
            return self.size, self.size, 1 if self.gray else 3
        files = find_images(existing_folder(self.path, KINDS))[0]
        return read_image(files[0], 0, self.gray, self.upper_byte).shape

    def load(self) -> Dataset:
        """Finds the files and, if they fit, reads them. Raises `UserError` for unusable ones."""
        from core.data.picture import read_image  # with Pillow

        at_least(self.size, 0, "--data.size")
        one_of(self.crop, ("lanczos", "adm"), "--data.crop")
        require(self.size > 0 or self.crop == "lanczos", "--data.crop adm needs a --data.size")
        files, labels, names, notes = find_images(existing_folder(self.path, KINDS))
        shape = read_image(files[0], self.size, self.gray, self.upper_byte, self.crop).shape
        source = ImageFiles(files, self.size, self.gray, shape, self.upper_byte, self.crop)
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
            flip=self.flip,
            notes=notes,
        )
