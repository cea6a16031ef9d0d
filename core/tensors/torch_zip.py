"""Torch's files since 1.6: a zip archive of a pickle and of the raw bytes of each storage."""

import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from core.tensors.machine import Table, refused, shown
from core.tensors.torch_pickle import Storages, run, torch_table
from core.tensors.view import Storage

_LOCAL = "<4s5H3I2H"  # the head of a member, of which the last two are lengths of name and extra
_LOCAL_SIZE = struct.calcsize(_LOCAL)


class TorchZip:
    """The members of an archive, as parts of the bytes of the file; nothing is unpacked."""

    def __init__(self, data: memoryview, stream: BinaryIO | BytesIO, name: str):
        self.data, self.name = data, name
        try:
            with zipfile.ZipFile(stream) as archive:
                self.members = archive.infolist()
        except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError):
            raise refused(name, "it is a damaged zip archive") from None
        names = [member.filename for member in self.members]
        if len(set(names)) < len(names):
            raise refused(name, "it has two members of one name")
        self.places = dict(zip(names, self.members))
        self.root = names[0].partition("/")[0] if names else ""

    def has(self, member: str) -> bool:
        """Whether there is such a member."""
        return f"{self.root}/{member}" in self.places

    def bytes(self, member: str) -> memoryview:
        """The bytes of a member. Raises `UserError` for one that is packed, or not whole."""
        info = self.places.get(f"{self.root}/{member}")
        if info is None:
            raise refused(self.name, f"it has no member {shown(member)}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise refused(self.name, f"its member {shown(member)} is compressed or encrypted")
        start, size = info.header_offset, info.file_size
        head = self.data[start : start + _LOCAL_SIZE] if start >= 0 else b""
        if len(head) < _LOCAL_SIZE or head[:4] != b"PK\x03\x04":
            raise refused(self.name, "it is a damaged zip archive")
        *_, name, extra = struct.unpack(_LOCAL, head)
        start += _LOCAL_SIZE + name + extra
        if start + size > len(self.data):
            raise refused(self.name, f"its member {shown(member)} ends beyond the file")
        return self.data[start : start + size]

    def tree(self, table: Table = torch_table) -> Any:
        """What was saved: dictionaries, lists and numbers, with `LazyTensor`s for tensors.

        Raises `UserError` for what is no file of tensors.
        """
        order = bytes(self.bytes("byteorder")) if self.has("byteorder") else b"little"
        if order != b"little":
            raise refused(self.name, f"its bytes are in {shown(order.decode('latin-1'))} order")
        storages = Storages(self.name, self.load, len(self.data))
        tree, _ = run(self.bytes("data.pkl"), self.name, storages, table=table)
        for storage in storages.known.values():
            self.load(storage)
        return tree

    def load(self, storage: Storage) -> memoryview:
        """The bytes of a storage. Raises `UserError` unless they are as many as it says."""
        found = self.bytes(f"data/{storage.key}")
        if len(found) != storage.size:
            raise refused(
                self.name,
                f"its storage {shown(storage.key)} has {len(found):,} bytes where its pickle "
                f"claims {storage.size:,}",
            )
        return found


def is_torch_zip(path: Path) -> bool:
    """Whether a zip archive has torch's pickle in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist()[:64])
    except (zipfile.BadZipFile, struct.error, ValueError, OSError, NotImplementedError):
        return False
