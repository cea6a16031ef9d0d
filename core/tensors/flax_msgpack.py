"""flax's files of training states: one msgpack value of nested maps, with arrays as extensions.

A reader of its own in the place of the library `msgpack`, for the sake of size: a state holds the
weights, their averages and the optimiser's moments, and of these one set is meant. Here an array is
a part of the mapped file that is read when it is asked for. Source: the msgpack specification, and
flax's `serialization.py`: extension 1 is `(shape, name of the dtype, bytes)`, 3 the same for a
number, and arrays above 2^30 bytes lie in pieces in a map that has the key `CHUNKED`.
"""

import struct
from math import prod
from typing import Any

import numpy as np

from core.tensors.machine import LONGEST_NUMBER, Record, refused, shown
from core.tensors.view import DTYPES, MOST_AXES, LazyTensor, Storage, view

DEEPEST = 64
CHUNKED = "__msgpack_chunked_array__"
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}
_BYTES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_TEXTS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_LISTS = {0xDC: ">H", 0xDD: ">I"}
_MAPS = {0xDE: ">H", 0xDF: ">I"}
_EXTENSIONS = {0xC7: ">B", 0xC8: ">H", 0xC9: ">I"}
_FIXED = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}


def is_flax(start: bytes) -> bool:
    """Whether a file that begins so may be one: a map of one entry or more whose first key is a
    text."""
    if len(start) < 9:
        return False
    if 0x81 <= start[0] <= 0x8F:
        first = start[1]
    elif start[0] in _MAPS:
        first = start[3 if start[0] == 0xDE else 5]
    else:
        return False
    return 0xA1 <= first <= 0xBF or first in _TEXTS


def flax_tree(data: memoryview, name: str) -> dict[str, Any]:
    """What was saved: nested dictionaries and lists, with `LazyTensor`s for arrays.

    Raises `UserError` for what is no such file. Nothing in it is executed.
    """
    reader = Reader(data, name)
    tree = reader.value(0)
    if reader.place != len(data):
        raise refused(name, "something follows its msgpack value")
    if not isinstance(tree, dict):
        raise refused(name, "its msgpack value is no map")
    return tree


class Reader:
    """Reads msgpack values one after another. Numbers of entries are never believed: each entry
    must be there."""

    def __init__(self, data: memoryview, name: str):
        self.data, self.name, self.place = data, name, 0

    def take(self, count: int) -> memoryview:
        """The next bytes, not copied."""
        if count > len(self.data) - self.place:
            raise refused(self.name, f"it ends within a value ({count:,} bytes are missing)")
        self.place += count
        return self.data[self.place - count : self.place]

    def number(self, form: str) -> Any:
        """The next number, of a form of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, size: int) -> str:
        """The next text."""
        try:
            return bytes(self.take(size)).decode("utf-8")
        except UnicodeDecodeError:
            raise refused(self.name, "it has a text that is not UTF-8") from None

    def value(self, depth: int) -> Any:
        """The next value."""
        if depth > DEEPEST:
            raise refused(self.name, f"its values lie more than {DEEPEST} deep in one another")
        code = self.take(1)[0]
        if code < 0x80 or code >= 0xE0:
            return code if code < 0x80 else code - 256
        if code < 0x90 or code in _MAPS:
            return self._map(code & 15 if code < 0x90 else self.number(_MAPS[code]), depth)
        if code < 0xA0 or code in _LISTS:
            count = code & 15 if code < 0xA0 else self.number(_LISTS[code])
            return [self.value(depth + 1) for _ in range(count)]
        if code < 0xC0 or code in _TEXTS:
            return self.text(code & 31 if code < 0xC0 else self.number(_TEXTS[code]))
        if code in _PLAIN:
            return _PLAIN[code]
        if code in _NUMBERS:
            return self.number(_NUMBERS[code])
        if code in _BYTES:
            return self.take(self.number(_BYTES[code]))
        if code in _EXTENSIONS or code in _FIXED:
            size = _FIXED[code] if code in _FIXED else self.number(_EXTENSIONS[code])
            kind = self.number(">b")
            return self._extension(kind, self.take(size))
        raise refused(self.name, f"it has the msgpack code 0x{code:02x}")

    def _map(self, count: int, depth: int) -> Any:
        found: dict[str, Any] = {}
        for _ in range(count):
            key = self.value(depth + 1)
            if isinstance(key, int) and not isinstance(key, bool):
                key = str(key)  # as flax's own names of a list's entries
            if not isinstance(key, str) or key in found:
                raise refused(self.name, "it has a key that is no text, or twice in a map")
            found[key] = self.value(depth + 1)
        return self._joined(found) if CHUNKED in found else found

    def _extension(self, kind: int, content: memoryview) -> Any:
        if kind not in (1, 3):
            return Record(f"msgpack extension {kind}")
        inner = Reader(content, self.name)
        head = inner.value(DEEPEST - 3)
        if not isinstance(head, list) or len(head) != 3 or inner.place != len(content):
            raise refused(self.name, "it has an array that is none")
        shape, dtype, raw = head
        dtype = bytes(dtype).decode("latin-1") if isinstance(dtype, memoryview) else dtype
        if not _is_shape(shape) or not isinstance(dtype, str) or not isinstance(raw, memoryview):
            raise refused(self.name, "it has an array that is none")
        if dtype not in DTYPES:
            return Record(f"an array of {shown(dtype)}")
        size = np.dtype(DTYPES[dtype]).itemsize
        if prod(shape) * size != len(raw):
            raise refused(
                self.name,
                f"it has an array of {len(raw):,} bytes whose shape {tuple(shape)} claims "
                f"{prod(shape) * size:,}",
            )
        storage = Storage("", dtype, len(raw) // size, lambda: raw)
        return view(storage, 0, shape, _strides(shape))

    def _joined(self, found: dict[str, Any]) -> LazyTensor:
        """The array whose pieces a map holds."""
        shape, pieces = _listed(found.get("shape")), _listed(found.get("chunks"))
        if not _is_shape(shape) or not pieces:
            raise refused(self.name, "it has an array in pieces that is none")
        whole = all(isinstance(piece, LazyTensor) for piece in pieces)
        if not whole or len({piece.kind for piece in pieces}) != 1:
            raise refused(self.name, "it has an array in pieces that are none")
        if sum(piece.size for piece in pieces) != prod(shape):
            raise refused(self.name, "it has an array in pieces that are not as many as it says")

        def load() -> np.ndarray:
            return np.concatenate([piece.read().reshape(-1) for piece in pieces]).reshape(shape)

        return LazyTensor(tuple(shape), pieces[0].kind, load)


def _listed(entries: Any) -> list[Any]:
    """The entries of a map whose keys are 0, 1 and so on."""
    if not isinstance(entries, dict) or set(entries) != {str(i) for i in range(len(entries))}:
        return []
    return [entries[str(i)] for i in range(len(entries))]


def _is_shape(shape: Any) -> bool:
    sizes = isinstance(shape, list) and len(shape) <= MOST_AXES
    return sizes and all(type(n) is int and 0 <= n < 1 << 8 * LONGEST_NUMBER for n in shape)


def _strides(shape: list[int]) -> tuple[int, ...]:
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
