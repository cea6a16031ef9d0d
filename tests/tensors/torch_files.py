"""Writes torch's files without torch, instruction by instruction: good ones, and hostile ones."""

import io
import struct
import zipfile
from dataclasses import dataclass, field

import numpy as np

KINDS = {
    "float64": ("DoubleStorage", "<f8"), "float32": ("FloatStorage", "<f4"),
    "float16": ("HalfStorage", "<f2"), "bfloat16": ("BFloat16Storage", "<u2"),
    "int64": ("LongStorage", "<i8"), "int32": ("IntStorage", "<i4"),
    "int16": ("ShortStorage", "<i2"), "int8": ("CharStorage", "<i1"),
    "uint8": ("ByteStorage", "<u1"), "bool": ("BoolStorage", "|b1"),
}  # fmt: skip
PROTO, STOP, MARK = b"\x80\x02", b".", b"("


@dataclass
class Row:
    """A storage: its kind, its bytes, and the count that the file claims."""

    kind: str
    raw: bytes
    count: int

    @staticmethod
    def of(values: np.ndarray, kind: str | None = None) -> "Row":
        kind = kind or values.dtype.name
        return Row(kind, values.astype(KINDS[kind][1]).tobytes(), values.size)


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def whole(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def named(module: str, name: str) -> bytes:
    return b"c" + f"{module}\n{name}\n".encode()


def group(*parts: bytes) -> bytes:
    return MARK + b"".join(parts) + b"t"


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + group(*arguments) + b"R"


def ordered(**items: bytes) -> bytes:
    """An `OrderedDict`, as a `state_dict` is, with its `_metadata`."""
    pairs = b"".join(text(name) + value for name, value in items.items())
    filled = call("collections", "OrderedDict") + MARK + pairs + b"u"
    return filled + plain(_metadata=call("collections", "OrderedDict")) + b"b"


def plain(**items: bytes) -> bytes:
    return b"}" + MARK + b"".join(text(name) + value for name, value in items.items()) + b"u"


@dataclass
class Writer:
    """A file with storages; `legacy` is the older format."""

    legacy: bool = False
    rows: dict[str, Row] = field(default_factory=dict)

    def storage(self, key: str) -> bytes:
        """The persistent identifier of a storage."""
        row = self.rows[key]
        parts = [text("storage"), named("torch", KINDS[row.kind][0]), text(key), text("cpu")]
        parts += [whole(row.count)] + [b"N"] * self.legacy
        return group(*parts) + b"Q"

    def add(self, row: Row) -> str:
        """Keeps a storage; its key."""
        key = str(len(self.rows))
        self.rows[key] = row
        return key

    def part(self, key: str, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
        """A tensor at a place of a storage."""
        sizes = group(*map(whole, shape)), group(*map(whole, stride))
        hooks = call("collections", "OrderedDict")
        arguments = self.storage(key), whole(offset), *sizes, b"\x89", hooks
        return call("torch._utils", "_rebuild_tensor_v2", *arguments)

    def tensor(self, values: np.ndarray, kind: str | None = None) -> bytes:
        """A tensor with a storage of its own."""
        stride = tuple(s // values.itemsize for s in np.zeros(values.shape, values.dtype).strides)
        return self.part(self.add(Row.of(values, kind)), 0, values.shape, stride)

    def file(self, tree: bytes, **how) -> bytes:
        """The bytes of the file that holds this value."""
        pickle = PROTO + tree + STOP
        return self._old(pickle, **how) if self.legacy else self._zip(pickle, **how)

    def _zip(self, pickle: bytes, order: str = "little", packed: bool = False, root: str = "a"):
        stream = io.BytesIO()
        kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        with zipfile.ZipFile(stream, "w", kind) as archive:
            archive.writestr(f"{root}/data.pkl", pickle)
            archive.writestr(f"{root}/byteorder", order)
            for key, row in self.rows.items():
                archive.writestr(f"{root}/data/{key}", row.raw)
            archive.writestr(f"{root}/version", "3\n")
        return stream.getvalue()

    def _old(self, pickle: bytes, little: bytes = b"\x88", keys: list[str] | None = None):
        magic = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
        head = PROTO + b"\x8a\x0a" + magic + STOP + PROTO + b"M" + struct.pack("<H", 1001) + STOP
        sizes = plain(short=whole(2), int=whole(4), long=whole(4))
        system = plain(protocol_version=b"M" + struct.pack("<H", 1001), type_sizes=sizes)
        system += MARK + text("little_endian") + little + b"u"
        listed = list(self.rows) if keys is None else keys
        keys_pickle = PROTO + b"]" + MARK + b"".join(map(text, listed)) + b"e" + STOP
        raw = b"".join(struct.pack("<q", row.count) + row.raw for row in self.rows.values())
        return head + PROTO + system + STOP + pickle + keys_pickle + raw
