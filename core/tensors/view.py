"""Tensors that are read when they are asked for: a view of a storage, checked before it is made."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

DTYPES = {
    "float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2", "int64": "<i8",
    "int32": "<i4", "int16": "<i2", "int8": "<i1", "uint8": "<u1", "bool": "|b1",
}  # fmt: skip
"""Numbers that tensors are made of, and how NumPy reads their bytes."""
MOST_AXES = 32


@dataclass(frozen=True)
class Storage:
    """A row of numbers in a file: `kind` of `DTYPES`, their `count`, and how the bytes are got.

    `load` returns exactly `count` numbers' bytes; that is checked where the file is opened.
    """

    key: str
    kind: str
    count: int
    load: Callable[[], memoryview]

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * np.dtype(DTYPES[self.kind]).itemsize


@dataclass(frozen=True)
class LazyTensor:
    """A named array of a file whose numbers are read by `read`, or by `numpy.asarray`.

    **Fields:** `shape`; `kind` of its numbers in the file, such as "bfloat16"; `load` reads.
    """

    shape: tuple[int, ...]
    kind: str
    load: Callable[[], np.ndarray]

    @property
    def dtype(self) -> np.dtype:
        """The type of the numbers that `read` returns: bfloat16 becomes float32."""
        return np.dtype("float32" if self.kind == "bfloat16" else self.kind)

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)

    def read(self) -> np.ndarray:
        """The array, a copy of its own."""
        return self.load()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return self.read() if dtype is None else self.read().astype(dtype)


def view(storage: Storage, offset: Any, shape: Any, stride: Any) -> LazyTensor:
    """The tensor at a place of a storage. Raises `ValueError` for one that lies outside of it, or
    that has more numbers than it."""
    whole = isinstance(shape, tuple | list) and isinstance(stride, tuple | list)
    if not whole or len(shape) != len(stride) or len(shape) > MOST_AXES:
        raise ValueError("sizes and strides are not as many")
    for value in (offset, *shape, *stride):
        if type(value) is not int or value < 0:
            raise ValueError("a size, a stride or an offset is negative or no whole number")
    numbers = prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, stride)) if numbers else offset - 1
    if last >= storage.count or numbers > storage.count:
        raise ValueError(
            f"a tensor of {tuple(shape)} numbers does not lie in a storage of {storage.count}"
        )
    shape, stride = tuple(shape), tuple(stride)
    return LazyTensor(shape, storage.kind, lambda: _numbers(storage, offset, shape, stride))


def _numbers(
    storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> np.ndarray:
    dtype = np.dtype(DTYPES[storage.kind])
    if not prod(shape):
        return _native(np.zeros(shape, dtype), storage.kind)
    row = np.frombuffer(storage.load(), dtype, storage.count)
    steps = tuple(step * dtype.itemsize for step in stride)
    return _native(np.lib.stride_tricks.as_strided(row[offset:], shape, steps), storage.kind)


def _native(values: np.ndarray, kind: str) -> np.ndarray:
    """A copy in the machine's own order of bytes, bfloat16 as float32."""
    if kind == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    if kind == "bool":
        return values.view(np.uint8) != 0
    return values.astype(np.dtype(kind), order="C", copy=True)
