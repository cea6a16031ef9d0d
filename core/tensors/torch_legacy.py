"""Torch's files before 1.6: five pickles in a row, then the bytes of each storage."""

import struct
from typing import Any

from core.tensors.machine import Machine, Table, refused, shown
from core.tensors.torch_pickle import Storages, run, torch_table
from core.tensors.view import Storage

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
START = b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""The pickle of the magic number, with which such a file begins."""


def legacy_tree(data: memoryview, name: str, table: Table = torch_table) -> Any:
    """What was saved, as `core.tensors.torch_zip.TorchZip.tree`. Raises `UserError`."""
    place = 0

    def plain() -> Any:
        nonlocal place
        value, place = Machine(data, name, lambda *_: None, _none(name), place).run()
        return value

    magic, protocol, system = plain(), plain(), plain()
    if magic != MAGIC or protocol != PROTOCOL or not isinstance(system, dict):
        raise refused(name, "it does not begin as torch's files do")
    if system.get("little_endian") is not True:
        raise refused(name, "its bytes are in big order")
    places: dict[str, int] = {}

    def load(storage: Storage) -> memoryview:
        start = places[storage.key]
        return data[start : start + storage.size]

    storages = Storages(name, load, len(data))
    tree, place = run(data, name, storages, place, table)
    keys = plain()
    if not isinstance(keys, list) or set(map(type, keys)) - {str} or len(set(keys)) < len(keys):
        raise refused(name, "it has no list of its storages")
    if set(keys) != set(storages.known):
        raise refused(name, "its list of storages is not that of its tensors")
    for key in keys:
        place = _place(data, name, storages.known[key], place)
        places[key] = place
        place += storages.known[key].size
    return tree


def _place(data: memoryview, name: str, storage: Storage, place: int) -> int:
    """Where the bytes of a storage begin, whose count stands at `place`."""
    if place + 8 + storage.size > len(data):
        raise refused(name, f"it ends within its storage {shown(storage.key)}")
    count = struct.unpack("<q", data[place : place + 8])[0]
    if count != storage.count:
        raise refused(
            name, f"its storage {shown(storage.key)} has {count:,} numbers, not {storage.count:,}"
        )
    return place + 8


def _none(name: str) -> Any:
    def persistent(identifier: Any) -> Any:
        del identifier
        raise refused(name, "its pickle names a storage where there is none")

    return persistent
