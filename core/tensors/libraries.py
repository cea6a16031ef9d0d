"""Files of named arrays that libraries read: safetensors and NumPy's, behind the same face."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.tensors.machine import refused, shown
from core.tensors.view import LazyTensor

_SAFE = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


MOST_UNPACKED, MOST_RATIO = 2**30, 100
"""Arrays that are packed may claim so many bytes together, or so many times those of the file."""

_DAMAGES = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, OSError, EOFError, KeyError,
    SyntaxError, NotImplementedError, RuntimeError,
)  # fmt: skip
"""What `zipfile` and NumPy raise for damaged bytes."""


@contextlib.contextmanager
def _whole(path: Path, kind: str) -> Iterator[None]:
    """Raises `UserError` where the bytes of the file are damaged."""
    try:
        yield
    except _DAMAGES as error:
        what = shown(str(error)) or type(error).__name__
        raise UserError(f"{path.name} is a damaged {kind} file ({what}); get it again") from None


def safetensors(path: Path) -> dict[str, LazyTensor]:
    """The arrays of a safetensors file. Raises `UserError` for one that is damaged."""
    from safetensors import SafetensorError, safe_open

    def load(name: str) -> np.ndarray:
        with safe_open(path, "numpy") as file:
            values = file.get_tensor(name)
        return values.astype(np.float32) if values.dtype.name == "bfloat16" else values

    found: dict[str, LazyTensor] = {}
    try:
        with safe_open(path, "numpy") as file:
            for name in file.keys():
                part = file.get_slice(name)
                kind = _SAFE.get(part.get_dtype())
                if kind is None:
                    what = f"{path.name}: {name} is of {part.get_dtype()}"
                    raise UserError(f"{what}; save it as float32, float16 or bfloat16")
                shape = tuple(part.get_shape())
                found[name] = LazyTensor(shape, kind, lambda name=name: load(name))
    except SafetensorError as error:
        what = shown(str(error))
        raise UserError(
            f"{path.name} is a damaged safetensors file ({what}); get it again"
        ) from None
    return found


def npz(path: Path) -> dict[str, LazyTensor]:
    """The arrays of an `.npz`, none of objects, each as large as it says. Raises `UserError`."""
    found: dict[str, LazyTensor] = {}
    with _whole(path, "npz"), zipfile.ZipFile(path) as archive:
        claimed = sum(info.file_size for info in archive.infolist())
        if claimed > max(MOST_UNPACKED, MOST_RATIO * path.stat().st_size):
            raise refused(path.name, f"its arrays claim {claimed:,} bytes, far more than it has")
        for info in archive.infolist():
            with archive.open(info) as stream:
                shape, dtype, start = _npy_head(stream)
            name = info.filename.removesuffix(".npy")
            size = int(np.prod(shape, dtype=object)) * dtype.itemsize
            if dtype.hasobject or start + size != info.file_size:
                raise refused(path.name, f"its array {shown(name)} is not as large as it says")

            def load(name: str = name) -> np.ndarray:
                with _whole(path, "npz"), np.load(path, allow_pickle=False) as file:
                    return file[name]

            found[name] = LazyTensor(shape, dtype.name, load)
    return found


def _npy_head(stream: Any) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, dtype, and how many bytes the head of an array has."""
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"version {version} of its arrays is not known")
    shape, _, dtype = read[version](stream)
    return shape, dtype, stream.tell()
