"""Orbax's folders: arrays in a key-value store, listed by `_METADATA`.

What Orbax does without a target: the names come from `_METADATA`, and tensorstore reads an array
when it is asked for, with no filling of what is missing. No class is looked up by a name in it.
Names stay in the folder, links do not lead out of it, and arrays claim no more than they may.
"""

import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.tensors.libraries import MOST_RATIO, MOST_UNPACKED
from core.tensors.machine import Record, refused, shown
from core.tensors.view import DTYPES, LazyTensor

MARKER = "_METADATA"
MOST_LISTED = 2**26
MOST_FILES = 100_000
MOST_PIECES = 64
"""A piece has at most so many times the bytes of its array, or those of `MOST_UNPACKED`."""
ARRAYS = ("jax.Array", "np.ndarray", "scalar")
"""Types of values that are kept as arrays."""


def orbax_folder(path: Path) -> Path | None:
    """The folder itself, or the one in it, that Orbax wrote; None where there is none. Raises
    `UserError` where there are several."""
    if (path / MARKER).is_file():
        return path
    inside = sorted(one.name for one in path.iterdir() if (one / MARKER).is_file())
    if len(inside) > 1:
        some = ", ".join(shown(name) for name in inside[:5])
        raise UserError(f"{path} holds several checkpoints ({some}); name one of them")
    return path / inside[0] if inside else None


def orbax_tree(folder: Path) -> dict[str, Any]:
    """What was saved: nested dictionaries with `LazyTensor`s for arrays.

    Raises `UserError`, one line, for what is no such folder.
    """
    name, size = folder.name, _size_of(folder)
    said = _metadata(folder, name)
    listed = said.get("tree_metadata")
    if not isinstance(listed, dict) or not listed:
        raise refused(name, f"its {MARKER} lists nothing")
    places: dict[tuple[str, ...], str] = {}
    for entry in listed.values():
        keys, kind, empty = _entry(entry, name)
        if not empty:
            places[keys] = kind
    arrays = [keys for keys, kind in places.items() if kind in ARRAYS]
    opened = _opened(folder, said, arrays, name)
    claimed = sum(one.size * one.dtype.itemsize for one in opened if isinstance(one, LazyTensor))
    if claimed > max(MOST_UNPACKED, MOST_RATIO * size):
        raise refused(name, f"its arrays claim {claimed:,} bytes, far more than it has")
    found = {keys: Record(f"a value of type {shown(kind)}") for keys, kind in places.items()}
    return _nested(found | dict(zip(arrays, opened, strict=True)), name)


def _size_of(folder: Path) -> int:
    """The bytes of all files. Raises `UserError` for links that lead out of the folder."""
    root, total, count = folder.resolve(), 0, 0
    for place, folders, files in os.walk(folder):
        for each in (*folders, *files):
            path = Path(place, each)
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                raise refused(folder.name, f"{shown(each)} in it is a link that leads out of it")
        count += len(files)
        if count > MOST_FILES:
            raise refused(folder.name, f"it has more than {MOST_FILES:,} files")
        total += sum(Path(place, each).stat().st_size for each in files)
    return total


def _metadata(folder: Path, name: str) -> dict[str, Any]:
    try:
        with (folder / MARKER).open("rb") as stream:
            content = stream.read(MOST_LISTED + 1)
        found = json.loads(content) if len(content) <= MOST_LISTED else None
    except (ValueError, OSError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise refused(name, f"its {MARKER} cannot be read")
    return found


def _entry(entry: Any, name: str) -> tuple[tuple[str, ...], str, bool]:
    """Keys from outside to inside, the type of the value, and whether it is empty."""
    fault = refused(name, f"its {MARKER} has an entry that is none")
    try:
        keys = tuple(one["key"] for one in entry["key_metadata"])
        value = entry["value_metadata"]
        kind, empty = value["value_type"], value.get("skip_deserialize", False)
    except (TypeError, KeyError, AttributeError):
        raise fault from None
    if not keys or not all(isinstance(key, str) for key in keys) or not isinstance(kind, str):
        raise fault
    for key in keys:
        if not key or "/" in key or "\\" in key or "\x00" in key or ".." in key:
            raise refused(name, f"its {MARKER} names {shown(key)!r}, which leads out of it")
    return keys, kind, bool(empty)


def _opened(
    folder: Path, said: Mapping[str, Any], arrays: list[tuple[str, ...]], name: str
) -> list[LazyTensor | Record]:
    """The arrays, of which only shapes and dtypes are read."""
    import tensorstore

    packed = said.get("use_ocdbt")
    packed = (folder / "manifest.ocdbt").is_file() if packed is None else bool(packed)
    driver = "zarr3" if said.get("use_zarr3") else "zarr"
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 2**27}})

    def spec(keys: tuple[str, ...]) -> dict[str, Any]:
        place = {"driver": "file", "path": f"{folder.absolute()}/"}
        param = ".".join(keys)
        store = {"driver": "ocdbt", "base": place, "path": f"{param}/"}
        plain = {"driver": "file", "path": f"{folder.absolute()}/{param}/"}
        return {
            "driver": driver,
            "kvstore": store if packed else plain,
            "fill_missing_data_reads": False,
        }

    try:
        waiting = [
            tensorstore.open(spec(keys), open=True, read=True, context=context) for keys in arrays
        ]
        stores = [one.result() for one in waiting]
    except Exception as error:  # it raises nearly anything for damaged bytes
        raise _damaged(name, error) from None
    return [_lazy(store, ".".join(keys), name) for store, keys in zip(stores, arrays, strict=True)]


def _lazy(store: Any, param: str, name: str) -> LazyTensor | Record:
    kind = store.dtype.name
    if kind not in DTYPES:
        return Record(f"an array of {shown(kind)}")
    shape = tuple(int(n) for n in store.shape)
    piece = prod(int(n) for n in store.chunk_layout.read_chunk.shape or ())
    if piece * store.dtype.numpy_dtype.itemsize > max(MOST_UNPACKED, MOST_PIECES * prod(shape)):
        raise refused(name, f"{shown(param)} has a piece of {piece:,} numbers")

    def load() -> np.ndarray:
        try:
            values = np.asarray(store.read().result())
        except Exception as error:
            raise _damaged(f"{name}: {shown(param)}", error) from None
        return values.astype(np.float32) if kind == "bfloat16" else values

    return LazyTensor(shape, kind, load)


def _damaged(name: str, error: Exception) -> UserError:
    why = shown(" ".join(str(error).split()))
    return UserError(f"{name} is a damaged or incomplete Orbax folder ({why}); get it again")


def _nested(flat: Mapping[tuple[str, ...], Any], name: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for keys, value in flat.items():
        here = tree
        for key in keys[:-1]:
            here = here.setdefault(key, {})
            if not isinstance(here, dict):
                raise refused(name, f"its {MARKER} has {shown(key)!r} as a value and as a folder")
        if keys[-1] in here:
            raise refused(name, f"its {MARKER} has {shown(keys[-1])!r} twice")
        here[keys[-1]] = value
    return tree
