"""An answer as one message: JSON, and arrays as they lie in memory."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.files import finite

ALIGNED = 8
"""Arrays begin at multiples of so many bytes, so that the browser reads them where they are."""
TYPES = {"f4": np.float32, "i4": np.int32, "u1": np.uint8}
"""The types of arrays that are sent, by their names in the message."""


def packed(said: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The length of the JSON in four bytes, the JSON, then the arrays, all little-endian.

    The JSON has the keys of `said`, and `arrays`: the type, shape and first byte of each, counted
    from the end of the JSON. Floats go as float32, whole numbers as int32, bytes as bytes. A number
    in `said` that is not finite becomes null.
    """
    entries, parts, place = {}, [], 0
    for name, array in arrays.items():
        kind, values = _plain(array)
        entries[name] = {"type": kind, "shape": list(values.shape), "at": place}
        data = values.tobytes()
        data += bytes(-len(data) % ALIGNED)
        parts.append(data)
        place += len(data)
    head = json.dumps(finite({**said, "arrays": entries}), allow_nan=False).encode()
    head += b" " * (-(len(head) + 4) % ALIGNED)
    return b"".join([struct.pack("<I", len(head)), head, *parts])


def unpacked(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The inverse of `packed`, as the page does it."""
    (length,) = struct.unpack_from("<I", message)
    said = json.loads(message[4 : 4 + length])
    arrays = {}
    for name, entry in said.pop("arrays").items():
        kind, size = np.dtype(f"<{entry['type']}"), int(np.prod(entry["shape"]))
        found = np.frombuffer(message, kind, size, 4 + length + entry["at"])
        arrays[name] = found.reshape(entry["shape"])
    return said, arrays


def _plain(array: np.ndarray) -> tuple[str, np.ndarray]:
    values = np.asarray(array)
    name = "u1" if values.dtype == np.uint8 else "f4" if values.dtype.kind == "f" else "i4"
    return name, np.ascontiguousarray(values, TYPES[name])
