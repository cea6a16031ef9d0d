"""Arrays in several safetensors files, which an index lists: `*.safetensors.index.json`."""

import json
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.tensors.libraries import safetensors
from core.tensors.machine import refused, shown
from core.tensors.view import LazyTensor

ENDING = ".safetensors.index.json"
MOST_BYTES = 2**26


def sharded(index: Path) -> tuple[dict[str, LazyTensor], list[Path]]:
    """The arrays that an index lists, and the files that they lie in.

    Raises `UserError` for an index that lists what there is not, or files elsewhere.
    """
    places = _places(index)
    files: dict[str, dict[str, LazyTensor]] = {}
    found: dict[str, LazyTensor] = {}
    for key, file in places.items():
        if file not in files:
            files[file] = _arrays(index, file)
        if key not in files[file]:
            raise refused(index.name, f"{shown(file)} has no {shown(key)}, which it lists there")
        found[key] = files[file][key]
    return found, [index.parent / file for file in files]


def _arrays(index: Path, file: str) -> dict[str, LazyTensor]:
    inside = file and not any(mark in file for mark in ("/", "\\", "\x00")) and file[0] != "."
    if not inside:
        raise refused(index.name, f"it lists {shown(file)!r}, which is no file beside it")
    path = index.parent / file
    if not path.is_file():
        raise UserError(f"{index.name} lists {shown(file)}, which is not there; get it too")
    return safetensors(path)


def _places(index: Path) -> dict[str, str]:
    """The file of each array."""
    found: Any = None
    try:
        with index.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) <= MOST_BYTES:
            found = json.loads(content)
    except (ValueError, OSError, RecursionError):
        found = None
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not places:
        raise refused(index.name, "it is no list of arrays and their files")
    if not all(isinstance(file, str) for file in places.values()):
        raise refused(index.name, "it is no list of arrays and their files")
    return places
