"""What the pickles inside of torch's files may call, and how their storages are named."""

from collections.abc import Callable, Mapping
from typing import Any

from core.tensors.machine import Inert, Machine, Record, Table, refused, shown
from core.tensors.view import DTYPES, LazyTensor, Storage, view

_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
    "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
}  # fmt: skip


class Kind(Inert):
    """A dtype of torch, or the class of its storages; called it is nothing."""

    def __init__(self, name: str, kind: str):
        def make(*arguments: Any) -> Any:
            raise ValueError("a dtype is not called")

        super().__init__(name, make)
        self.kind = kind


def _rebuilt(storage: Any, offset: Any, shape: Any, stride: Any, *rest: Any) -> LazyTensor:
    """`_rebuild_tensor_v2`; the rest are gradients' flags and hooks."""
    del rest
    if not isinstance(storage, Storage):
        raise ValueError("a tensor without a storage")
    return view(storage, offset, shape, stride)


def _parameter(data: Any, *rest: Any) -> LazyTensor:
    """`_rebuild_parameter`: the tensor itself."""
    del rest
    if not isinstance(data, LazyTensor):
        raise ValueError("a parameter that is no tensor")
    return data


def _ordered() -> dict[Any, Any]:
    """`collections.OrderedDict`, filled by the instructions that follow."""
    return {}


def _namespace(*arguments: Any) -> Record:
    """`argparse.Namespace`, as training scripts put it beside their weights."""
    return Record("argparse.Namespace", arguments)


def _size(shape: Any = ()) -> tuple[Any, ...]:
    """`torch.Size`."""
    if not isinstance(shape, tuple):
        raise ValueError("a size that is no tuple")
    return shape


def _inert(make: Callable[..., Any], module: str, name: str) -> tuple[tuple[str, str], Inert]:
    return (module, name), Inert(f"{module}.{name}", make)


FUNCTIONS: Mapping[tuple[str, str], Inert] = dict(
    [
        _inert(_ordered, "collections", "OrderedDict"),
        _inert(_rebuilt, "torch._utils", "_rebuild_tensor"),
        _inert(_rebuilt, "torch._utils", "_rebuild_tensor_v2"),
        _inert(_parameter, "torch._utils", "_rebuild_parameter"),
        _inert(_namespace, "argparse", "Namespace"),
        _inert(_size, "torch", "Size"),
        *((("torch", name), Kind(f"torch.{name}", kind)) for name, kind in _STORAGES.items()),
        *((("torch", kind), Kind(f"torch.{kind}", kind)) for kind in DTYPES),
        (("torch.storage", "UntypedStorage"), Kind("torch.storage.UntypedStorage", "uint8")),
    ]
)
"""What stands for the functions and classes that these pickles name; all else is refused."""


def torch_table(module: str, name: str) -> Inert | None:
    """`FUNCTIONS` as a `Table`."""
    return FUNCTIONS.get((module, name))


class Storages:
    """The storages that a pickle names, each once.

    **Arguments:** `name` of the file; `load(key, bytes)` hands out the bytes of one; `limit` for
    their bytes together, and for those of the tensors.
    """

    def __init__(self, name: str, load: Callable[[Storage], memoryview], limit: int):
        self.name, self.load, self.limit = name, load, limit
        self.known: dict[str, Storage] = {}
        self.claimed = 0

    def __call__(self, identifier: Any) -> Storage:
        """The storage of `("storage", kind, key, device, count[, view])`."""
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6):
            raise refused(self.name, "its pickle names a storage in an unknown way")
        what, kind, key, _, count, *part = identifier
        if what != "storage" or not isinstance(kind, Kind) or not isinstance(key, str):
            raise refused(self.name, "its pickle names a storage in an unknown way")
        if part not in ([], [None]):
            raise refused(self.name, "it has a storage that is a part of another")
        if type(count) is not int or count < 0:
            raise refused(self.name, "it has a storage of a negative size")
        if key in self.known:
            return self._again(self.known[key], kind.kind, count)
        storage = Storage(key, kind.kind, count, lambda: self.load(storage))
        self.claimed += storage.size
        if self.claimed > self.limit:
            raise refused(self.name, "its storages claim more bytes than the file has")
        self.known[key] = storage
        return storage

    def _again(self, known: Storage, kind: str, count: int) -> Storage:
        if (known.kind, known.count) != (kind, count):
            raise refused(self.name, f"its storage {shown(known.key)} has two sizes")
        return known


def run(
    data: memoryview, name: str, storages: Storages, start: int = 0, table: Table = torch_table
) -> tuple[Any, int]:
    """The value of one pickle and where it ends. Raises `UserError`."""
    return Machine(data, name, table, storages, start).run()
