"""The pickles of EDM and EDM2: networks as objects, read as records and tensors.

Such a file holds the source text of its own classes, which the code that wrote it runs when it
loads the file. Here objects become inert records of a class name and a state, and that text is
never looked at. A tensor's storage is a whole torch file inside the pickle, which is read by the
readers of those files, with their bounds.
"""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.tensors.machine import Inert, Machine, Record, refused, shown
from core.tensors.opening import MOST_SHARED, mapped
from core.tensors.torch_legacy import legacy_tree
from core.tensors.torch_pickle import torch_table
from core.tensors.torch_zip import TorchZip
from core.tensors.view import LazyTensor, Storage

MOST_MODULES = 20_000
"""Modules of a network at most: an object in many places counts at each."""
DEEPEST = 24
NUMBERS = {
    "f8": "<f8", "f4": "<f4", "f2": "<f2", "i8": "<i8", "i4": "<i4", "i2": "<i2", "i1": "<i1",
    "u8": "<u8", "u4": "<u4", "u2": "<u2", "u1": "<u1", "b1": "|b1",
}  # fmt: skip
"""Types of NumPy's numbers, by the names that its pickles have."""
PLAIN = bool | int | float | str | None


def open_edm(path: str | Path, entry: str = "ema") -> tuple[dict[str, Any], dict[str, LazyTensor]]:
    """The network of a pickle of EDM or EDM2.

    **Arguments:** `entry` of the file: "ema". **Returns:** its options and its tensors. Tensors
    have the names of torch's `state_dict`: their place in modules, joined by dots. Options are the
    plain attributes of the object and of its modules by the same rule, and `class_name` of each:
    `{"class_name": "EDMPrecond", "img_resolution": 32, "model.class_name": "SongUNet", ...}`.
    **Raises:** `UserError`, one line, for what is no such file. Nothing in it is executed.
    """
    path = Path(path)
    if not path.is_file() or path.stat().st_size == 0:
        raise UserError(f"no file {path}, or an empty one; name a file of weights")
    data = mapped(path)
    tree, _ = Machine(data, path.name, _table(path.name, len(data)), _none(path.name)).run()
    found = tree.get(entry) if type(tree) is dict else tree
    if not isinstance(found, Record) or not isinstance(found.state, dict):
        keys = ", ".join(shown(str(key)) for key in list(tree)[:5]) if type(tree) is dict else ""
        raise UserError(f"{path.name} has no network {entry!r}; it has {keys or 'no entries'}")
    options, tensors = _walked(found, path.name)
    claimed = sum(one.size * one.dtype.itemsize for one in tensors.values())
    if claimed > MOST_SHARED * len(data):
        raise refused(path.name, f"its tensors claim {claimed:,} bytes, far more than the file has")
    if not tensors:
        raise UserError(f"{path.name}: {entry} holds no tensors")
    return options, tensors


def is_edm(path: str | Path) -> bool:
    """Whether a file begins as a pickle that is not one of torch's: protocol 2 or newer."""
    with Path(path).open("rb") as stream:
        start = stream.read(4)
    return len(start) == 4 and start[0] == 0x80 and 2 <= start[1] <= 5 and start[2:4] != b"\x8a\x0a"


def _table(name: str, size: int) -> Callable[[str, str], Inert | None]:
    """What such a pickle may call. Storages together have at most `size` bytes."""
    nested = Nested(name, size)
    own = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): _persistent,
        ("torch.storage", "_load_from_bytes"): nested,
        ("dnnlib.util", "EasyDict"): _empty,
        ("numpy", "dtype"): _record("numpy.dtype"),
        ("numpy", "ndarray"): _record("numpy.ndarray"),
        ("torch", "device"): _record("torch.device"),
    }
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        own[module, "scalar"] = _scalar
        own[module, "_reconstruct"] = _record("numpy.ndarray")

    def table(module: str, what: str) -> Inert | None:
        make = own.get((module, what))
        if make is not None:
            return Inert(f"{module}.{what}", make)
        if module.startswith("torch.nn.modules.") and what.isidentifier():
            return Inert(f"{module}.{what}", _record(what))
        return torch_table(module, what)

    return table


class Nested:
    """Torch's files inside of a pickle, each of which holds one storage."""

    def __init__(self, name: str, size: int):
        self.name, self.left = name, size

    def __call__(self, content: Any) -> Storage:
        """The storage. Raises `UserError` for anything else, and when they are more than fit."""
        if not isinstance(content, memoryview):
            raise ValueError("a storage that is no bytes")
        self.left -= len(content)
        if self.left < 0:
            raise refused(self.name, "its storages are more than fit into the file")
        if content[:4] == b"PK\x03\x04":
            found = TorchZip(content, io.BytesIO(content), self.name).tree(torch_table)
        else:
            found = legacy_tree(content, self.name, torch_table)
        if not isinstance(found, Storage):
            raise ValueError("bytes that hold no storage")
        return found


def _persistent(meta: Any) -> Record:
    """An object of a class whose source text is in the file; that text is not looked at."""
    name = meta.get("class_name") if type(meta) is dict else None
    if not isinstance(name, str):
        raise ValueError("an object without the name of its class")
    record = Record(shown(name))
    record.state = meta.get("state")
    return record


def _record(name: str) -> Callable[..., Record]:
    return lambda *arguments: Record(name, arguments)


def _empty() -> dict[Any, Any]:
    """A dictionary, filled by the instructions that follow."""
    return {}


def _scalar(dtype: Any, content: Any = None) -> Any:
    """A number of NumPy as Python's. Raises `ValueError` for another type."""
    kind = dtype.arguments[0] if isinstance(dtype, Record) and dtype.arguments else None
    form = NUMBERS.get(kind) if isinstance(kind, str) else None
    state = dtype.state if isinstance(dtype, Record) else None
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    if form is None or order not in ("<", "|", "="):
        raise ValueError("a number of a type that is not known")
    if not isinstance(content, memoryview) or len(content) != np.dtype(form).itemsize:
        raise ValueError("a number of another size than its type has")
    return np.frombuffer(content, form)[0].item()


def _walked(top: Record, name: str) -> tuple[dict[str, Any], dict[str, LazyTensor]]:
    """Options and tensors of a module and of those in it."""
    options: dict[str, Any] = {}
    tensors: dict[str, LazyTensor] = {}
    levels: list[tuple[str, Record, int]] = [("", top, 0)]
    for _ in range(MOST_MODULES):
        if not levels:
            return options, tensors
        before, module, depth = levels.pop()
        if depth > DEEPEST:
            raise refused(name, f"its modules lie more than {DEEPEST} deep in one another")
        state = module.state if isinstance(module.state, dict) else {}
        options[f"{before}class_name"] = module.name
        for key, value in state.items():
            if isinstance(key, str) and not key.startswith("_") and _is_plain(value):
                options[f"{before}{key}"] = value
        for part in ("_parameters", "_buffers"):
            for key, value in _named(state, part).items():
                if isinstance(value, LazyTensor):
                    tensors[f"{before}{key}"] = value
        inner = [
            (f"{before}{key}.", value, depth + 1)
            for key, value in _named(state, "_modules").items()
            if isinstance(value, Record)
        ]
        levels.extend(reversed(inner))
    raise refused(name, f"it has more than {MOST_MODULES:,} modules")


def _named(state: Mapping[Any, Any], part: str) -> Mapping[Any, Any]:
    """A dictionary of a module's state, or nothing."""
    found = state.get(part)
    return found if isinstance(found, dict) else {}


def _is_plain(value: Any) -> bool:
    """Whether a value is a plain number or text, or a short list of such."""
    if isinstance(value, list | tuple):
        return len(value) <= 64 and all(isinstance(one, PLAIN) for one in value)
    return isinstance(value, PLAIN)


def _none(name: str) -> Callable[[Any], Any]:
    def persistent(identifier: Any) -> Any:
        del identifier
        raise refused(name, "its pickle names a storage where there is none")

    return persistent
