"""A folder of pictures, kept in memory if they fit and read on demand if not."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from core.data.checks import at_least, existing_folder
from core.data.dataset import Dataset
from core.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Endings of the files that are read, in either case."""
KINDS = "PNG, JPEG, WebP or BMP files"
_THREADS = 8
_MOST_NAMED = 4


@dataclass(frozen=True)
class ImageFiles:
    """Pictures of one shape, read when asked for: the source of a lazy `Dataset`."""

    files: Sequence[Path]
    size: int
    gray: bool
    shape: tuple[int, ...]
    upper_byte: bool = False

    def __len__(self) -> int:
        """The number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "height width channels"]:
        """Reads file `index`. Raises `UserError` if it is unreadable or of another shape."""
        from core.data.picture import read_image  # with Pillow

        file = self.files[index]
        image = read_image(file, self.size, self.gray, self.upper_byte)
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


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.name[0] != "." and f.is_file())


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.name[0] != "." and f.is_dir())


def _pictures(folder: Path) -> list[Path]:
    return [f for f in _files(folder) if f.suffix.lower() in SUFFIXES]


def _others(folder: Path) -> list[Path]:
    return [f for f in _files(folder) if f.suffix.lower() not in SUFFIXES]


def by_ending(files: Sequence[Path]) -> str:
    """How many files there are of each ending, the most frequent first: "20 .gif, 1 .txt"."""
    counts = Counter(file.suffix.lower() or "without ending" for file in files).most_common()
    named = [f"{count} {ending}" for ending, count in counts[:_MOST_NAMED]]
    rest = sum(count for _, count in counts[_MOST_NAMED:])
    return ", ".join([*named, *([f"{rest} others"] if rest else [])])


def _what_lies_in(folder: Path) -> str:
    """The contents of a folder without pictures of its own, in a few words."""
    inner = [(sub.name, len(_pictures(sub))) for sub in _folders(folder)]
    with_pictures = [f"{name} with {count} pictures" for name, count in inner if count]
    others = _others(folder)
    found = [by_ending(others)] if others else []
    if with_pictures:
        found.append(f"sub-folders such as {with_pictures[0]}")
    elif inner:
        found.append(f"{len(inner)} sub-folders without pictures")
    return " and ".join(found) or "nothing"


def find_images(
    folder: Path,
) -> tuple[list[Path], Int32[np.ndarray, " n"] | None, tuple[str, ...], tuple[str, ...]]:
    """Files, labels and class names of a folder, in the order of their names, and what was left
    out.

    Pictures lie either in the folder itself (then there are no labels) or in its sub-folders, each
    of which is a class. Raises `UserError` if there are none, if a class has none, or if both.
    """
    flat = _pictures(folder)
    below = _folders(folder)
    classes = {sub.name: _pictures(sub) for sub in below}
    if flat and any(classes.values()):
        raise UserError(
            f"{folder}: {len(flat)} pictures beside sub-folders of pictures; move them into a "
            "sub-folder (one a class), or name a folder without sub-folders of pictures"
        )
    if flat:
        return flat, None, (), _left_out([folder], below)
    if not any(classes.values()):
        raise UserError(
            f"{folder}: no {KINDS} in it or in its sub-folders, which hold "
            f"{_what_lies_in(folder)}; name another folder, or convert them"
        )
    for sub in below:
        if not classes[sub.name]:
            raise UserError(
                f"{sub}: a sub-folder is a class, and this one has no {KINDS} of its own; it holds "
                f"{_what_lies_in(sub)}: put the pictures of the class directly into it, or move it "
                f"out of {folder} as it is"
            )
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    files = [file for group in classes.values() for file in group]
    inner = [one for sub in below for one in _folders(sub)]
    return files, labels.astype(np.int32), tuple(classes), _left_out([folder, *below], inner)


def _left_out(looked_at: Sequence[Path], not_entered: Sequence[Path]) -> tuple[str, ...]:
    """What in these folders is not read, in one line, and nothing where all is."""
    others = [file for folder in looked_at for file in _others(folder)]
    found = [by_ending(others)] if others else []
    inside = [folder for folder in not_entered if any(folder.iterdir())]
    if inside:
        found.append(f"{len(inside)} sub-folders such as {inside[0].name}")
    return (f"left out: {' and '.join(found)}",) if found else ()


@dataclass(frozen=True)
class ImagesData:
    """A folder of PNG, JPEG, WebP and BMP files, one sub-folder a class, or none and no labels.

    Pictures are turned upright as their EXIF data say; transparent parts become white. What else
    lies there is left out, and the run says so.
    """

    path: str = ""
    """Folder of pictures, or of one sub-folder of pictures a class."""
    size: int = 0
    """Scale the shorter side to this, cut the middle square; 0: all have one size already."""
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
        files, labels, names, notes = find_images(existing_folder(self.path, KINDS))
        shape = read_image(files[0], self.size, self.gray, self.upper_byte).shape
        source = ImageFiles(files, self.size, self.gray, shape, self.upper_byte)
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
            notes=notes,
        )
