"""Files that are whole or not there, whatever happens while they are written; and that stay inside
of their folder."""

import contextlib
import json
import math
import os
import secrets
import stat
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from core.errors import UserError

UNFINISHED = ".unfinished-"
"""How the names of files begin that are being written, or were when their process was killed."""


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[BinaryIO]:
    """A binary stream whose content is the file `path` once the `with` has ended well.

    It is written beside its place, handed to the disk, and moved there: whoever reads sees the old
    file or the new one, after a crash of the machine too. A file that was there gives its
    permissions; a link is replaced, not followed; a device or a pipe is written directly. Missing
    folders are made. Raises `OSError`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = _kind(path)
    if before is not None and not stat.S_ISREG(before):
        with path.open("wb") as stream:
            yield stream
        return
    unfinished = path.with_name(UNFINISHED + secrets.token_hex(6))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(unfinished, flags, 0o666), "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if before is not None:
            unfinished.chmod(stat.S_IMODE(before))
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    _settle(path.parent)


def _kind(path: Path) -> int | None:
    """The mode of what a path leads to; None where there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _settle(folder: Path) -> None:
    """Hands the entries of a folder to the disk, where the system can: a move is one of them."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes a file as a whole."""
    with whole(path) as stream:
        stream.write(content)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file as a whole, in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes indented JSON as a whole, with null for numbers that are not finite."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(finite(value), indent=2, allow_nan=False) + "\n"


def write_arrays(path: str | Path, arrays: dict[str, np.ndarray], *, compress: bool = True) -> None:
    """Writes an `.npz` file as a whole; nothing is pickled."""
    content = BytesIO()
    save = np.savez_compressed if compress else np.savez
    save(content, allow_pickle=False, **arrays)
    write_bytes(path, content.getvalue())


def finite(value: Any) -> Any:
    """Nested values as JSON can have them: None for a number that is not finite."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def inside(folder: str | Path, *names: str) -> Path:
    """The path of a file in a folder. Raises `UserError` where links, or the names, lead out of
    it: who hands a folder around does not choose which files of others are written."""
    folder = Path(folder)
    path = folder.joinpath(*names)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{path} is a link that leads out of {folder}; nothing is written through it: put a "
            "file or folder in its place, or name another folder"
        )
    return path


def check_links(folder: str | Path, names: tuple[str, ...]) -> None:
    """Raises `UserError` where one of these entries of a folder, or a link below it, leads out."""
    folder = Path(folder)
    for name in names:
        inside(folder, name)
        for place, folders, files in os.walk(folder / name):
            for each in (*folders, *files):
                path = Path(place, each)
                if path.is_symlink():
                    inside(folder, str(path.relative_to(folder)))


def clear_unfinished(folder: str | Path) -> None:
    """Deletes what killed processes had begun to write in a folder and its sub-folders."""
    for place, _, files in os.walk(folder):
        for name in files:
            if name.startswith(UNFINISHED):
                with contextlib.suppress(OSError):
                    Path(place, name).unlink()
