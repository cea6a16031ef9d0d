"""Any file of named arrays, whoever wrote it, without running anything that is in it."""

import hashlib
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.tensors.choose import chosen, stripped
from core.tensors.flax_msgpack import flax_tree, is_flax
from core.tensors.libraries import npz, safetensors
from core.tensors.machine import Table, refused
from core.tensors.orbax_folder import orbax_folder, orbax_tree
from core.tensors.sharded import ENDING, sharded
from core.tensors.torch_legacy import START, legacy_tree
from core.tensors.torch_pickle import torch_table
from core.tensors.torch_zip import TorchZip, is_torch_zip
from core.tensors.view import LazyTensor

MOST_SHARED = 8
"""Tensors may share a storage. Together they claim at most so many times the bytes of the file."""


class Tensors(Mapping[str, LazyTensor]):
    """Named arrays of a file, each read when it is asked for.

    **Fields:** `path`; `which` of the file's sets it is ("" where there is one); `items`.
    """

    def __init__(self, path: Path, which: str, items: Mapping[str, LazyTensor]):
        self.path, self.which, self._items = path, which, dict(items)

    def __getitem__(self, name: str) -> LazyTensor:
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def open_tensors(path: str | Path, which: str | None = None) -> Tensors:
    """The named arrays of a file or folder: safetensors, in several files too (by their
    `.index.json`), `.npz`, torch's, zip or older, flax's msgpack, or a folder of Orbax.

    Nothing in a file is executed, and numbers are read from the disk when they are asked for.
    Tensors keep their names, without prefixes that all have (`core.tensors.choose`); those of
    nested dictionaries are joined by dots; bfloat16 becomes float32 when it is read.
    **Arguments:** `which` of several sets of a training checkpoint, `"ema"` or `"model"`. Raises
    `UserError`, one line, for what is no such file.
    """
    path = Path(path)
    if path.is_dir():
        return _of_folder(path, which)
    if path.name.endswith(ENDING):
        return Tensors(path, "", _only(which, path, sharded(path)[0]))
    start = _start(path)
    if start[:4] == b"PK\x03\x04" and not is_torch_zip(path):
        return Tensors(path, "", _only(which, path, npz(path)))
    if start[:4] == b"PK\x03\x04" or start.startswith(START):
        place, items = chosen(open_tree(path), path.name, which)
        _check_shared(path, items)
        return Tensors(path, place, items)
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] < path.stat().st_size:
        return Tensors(path, "", _only(which, path, safetensors(path)))
    if is_flax(start):
        place, items = chosen(flax_tree(mapped(path), path.name), path.name, which)
        return Tensors(path, place, items)
    if start[8:9] == b"{":
        return Tensors(path, "", _only(which, path, safetensors(path)))  # which says what is wrong
    raise UserError(
        f"{path.name} is no file of tensors that is known: safetensors, npz, torch's .pt and .pth, "
        "or flax's msgpack"
    )


def _of_folder(path: Path, which: str | None) -> Tensors:
    folder = orbax_folder(path)
    if folder is None:
        raise UserError(f"{path} is no folder of Orbax (no _METADATA in it); name a file in it")
    place, items = chosen(orbax_tree(folder), path.name, which)
    return Tensors(path, place, items)


def open_tree(path: str | Path, table: Table = torch_table) -> Any:
    """All that a torch file holds: nested dictionaries and lists, with `LazyTensor`s.

    `table` says what its pickle may call; see `core.tensors.machine`. Raises `UserError`.
    """
    path = Path(path)
    data = mapped(path)
    if data[:4] == b"PK\x03\x04":
        with path.open("rb") as stream:
            return TorchZip(data, stream, path.name).tree(table)
    return legacy_tree(data, path.name, table)


def mapped(path: Path) -> memoryview:
    """The bytes of a file, which the system reads where they are looked at."""
    with path.open("rb") as stream:
        return memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _start(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"no file {path}; name a file of weights")
    with path.open("rb") as stream:
        start = stream.read(64)
    if len(start) < 9:
        raise UserError(f"{path.name} is empty or cut off; get it again")
    return start


def _only(which: str | None, path: Path, items: dict[str, LazyTensor]) -> Mapping[str, LazyTensor]:
    """The arrays of a file that has one set."""
    if which is not None:
        raise UserError(f"{path.name} has one set of weights, and none is called {which!r}")
    return stripped(items)


def _check_shared(path: Path, items: Mapping[str, LazyTensor]) -> None:
    """Raises `UserError` for views that together are far larger than the file."""
    claimed = sum(one.size * one.dtype.itemsize for one in items.values())
    if claimed > MOST_SHARED * path.stat().st_size:
        raise refused(path.name, f"its tensors claim {claimed:,} bytes, far more than the file has")
