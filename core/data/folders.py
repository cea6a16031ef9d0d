"""Finds pictures in a folder: one sub-folder a class, at any depth below it."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from core.errors import UserError

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    ".avif",
)
"""Endings of the files that are read, in either case; `.avif` where Pillow can."""
KINDS = "PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF files"
_MOST_NAMED = 4

Found = tuple[list[Path], Int32[np.ndarray, " n"] | None, tuple[str, ...], tuple[str, ...]]


@functools.cache
def _readable() -> frozenset[str]:
    from PIL import features  # with Pillow

    return frozenset(SUFFIXES if features.check("avif") else SUFFIXES[:-1])


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.name[0] != "." and f.is_file())


def _folders(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.name[0] != "." and f.is_dir())


def _below(folder: Path, seen: frozenset[Path] = frozenset()) -> Iterator[Path]:
    """All files in a folder and in its sub-folders, each folder once, also where links make a
    circle."""
    seen |= {folder.resolve()}
    yield from _files(folder)
    for sub in _folders(folder):
        if sub.resolve() not in seen:
            yield from _below(sub, seen)


def _pictures(files: Sequence[Path]) -> list[Path]:
    return [f for f in files if f.suffix.lower() in _readable()]


def _others(files: Sequence[Path]) -> list[Path]:
    return [f for f in files if f.suffix.lower() not in _readable()]


def by_ending(files: Sequence[Path]) -> str:
    """How many files there are of each ending, the most frequent first: "20 .svg, 1 .txt"."""
    counts = Counter(file.suffix.lower() or "without ending" for file in files).most_common()
    named = [f"{count} {ending}" for ending, count in counts[:_MOST_NAMED]]
    rest = sum(count for _, count in counts[_MOST_NAMED:])
    return ", ".join([*named, *([f"{rest} others"] if rest else [])])


def find_images(folder: Path) -> Found:
    """Files, labels and class names of a folder, in the order of their names, and what was left
    out.

    Pictures lie either in the folder itself (then there are no labels) or in its sub-folders, each
    of which is a class with all that lies below it. Raises `UserError` if there are none, if a
    class has none, or if both.
    """
    here, below = _files(folder), {sub.name: sorted(_below(sub)) for sub in _folders(folder)}
    flat = _pictures(here)
    classes = {name: _pictures(files) for name, files in below.items()}
    if flat and any(classes.values()):
        raise UserError(
            f"{folder}: {len(flat)} pictures beside sub-folders of pictures; move them into a "
            "sub-folder (one a class), or name a folder without sub-folders of pictures"
        )
    everything = [*here, *(file for files in below.values() for file in files)]
    if flat:
        return flat, None, (), left_out(everything)
    if not any(classes.values()):
        raise UserError(
            f"{folder}: no {KINDS} in it or in its sub-folders, which hold "
            f"{by_ending(everything) or 'nothing'}; name another folder, or convert them"
        )
    for name, files in classes.items():
        if not files:
            raise UserError(
                f"{folder / name}: a sub-folder is a class, and this one has no {KINDS}; it holds "
                f"{by_ending(below[name]) or 'nothing'}: put the pictures of the class into it, or "
                f"move it out of {folder} as it is"
            )
    labels = np.repeat(np.arange(len(classes)), [len(files) for files in classes.values()])
    pictures = [file for group in classes.values() for file in group]
    return pictures, labels.astype(np.int32), tuple(classes), left_out(everything)


def left_out(files: Sequence[Path]) -> tuple[str, ...]:
    """What of these files is not read and why, in one line, and nothing where all is."""
    others = _others(files)
    if not others:
        return ()
    why = f"they are no {KINDS}"
    if any(file.suffix.lower() == ".avif" for file in others):
        why += ", and this Pillow reads no AVIF"
    return (f"left out: {by_ending(others)} ({why})",)
