"""Arrays in NumPy's files, and nothing pickled: whole ones, and shards that stay on disk."""

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from core.data.checks import fits_memory
from core.errors import UserError

EXAMPLE_KEYS = ("images", "x")
LABEL_KEYS = ("labels", "y")
NAME_KEYS = ("class_names",)


def read_arrays(
    file: Path, known: tuple[str, ...] = EXAMPLE_KEYS + LABEL_KEYS + NAME_KEYS
) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of an `.npz` file by name, or the one of an `.npy` file under the name `""`.

    Of an `.npz` only the `known` names are read. Nothing pickled is ever loaded. Raises `UserError`
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
            named = [key for key in loaded.files if key in known]
            for key in named:
                _check_member(loaded.zip, key, file)
            return {key: loaded[key] for key in named}
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


def pick(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]], keys: tuple[str, ...], file: Path
) -> Shaped[np.ndarray, "..."] | None:
    found = [key for key in ("", *keys) if key in arrays]
    if len(found) > 1:
        raise UserError(f"{file}: holds both {found[0]} and {found[1]}; keep one of them")
    return arrays[found[0]] if found else None


def header_of(file: Path, names: tuple[str, ...] = EXAMPLE_KEYS) -> Shaped[np.ndarray, "..."]:
    """An array of the shape and type that the examples of a file have, made of one number, so that
    it takes no room. Raises what NumPy and zipfile raise for files that are not as they should
    be."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            keys = [key for key in names if f"{key}.npy" in archive.namelist()]
            with archive.open(f"{keys[0]}.npy") as stream:
                return _header(stream)
    with file.open("rb") as stream:
        return _header(stream)


def _header(stream: Any) -> Shaped[np.ndarray, "..."]:
    version = np.lib.format.read_magic(stream)
    head = np.lib.format.read_array_header_1_0
    shape, _, dtype = (head if version == (1, 0) else np.lib.format.read_array_header_2_0)(stream)
    return np.broadcast_to(np.zeros((), dtype), shape)


def map_array(file: Path) -> Shaped[np.ndarray, "..."]:
    """The array of an `.npy` file, which stays on disk. Raises `UserError` for one that is damaged
    or holds Python objects."""
    try:
        with file.open("rb") as stream:
            _check_promise(stream, file.stat().st_size)
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy raises nearly anything for damaged bytes
        if "pickle" in str(error) or "Python objects" in str(error):
            raise UserError(
                f"{file}: holds pickled Python objects, which are never loaded; save plain arrays"
            ) from None
        raise UserError(f"{file}: truncated or damaged, or no .npy file; write it again") from None
