"""Where the layers of a network of ours stand in foreign ones: paths of modules, and which rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.adapters.places import Layer, layers, network_of
from core.layouts.networks import table_of
from core.layouts.table import Entry, Table
from core.nets.convolutional import Conv

ENDINGS = (".weight", "._flax_linear.kernel", ".kernel")
"""What a module's path is followed by in the name of its weights."""


@dataclass(frozen=True)
class Module:
    """A module of a foreign network, which is a layer of ours or a part of one.

    **Fields:** `path` of the module; `layer` of ours, by its name in the network, and which `index`
    of those that are stacked, None where it stands alone; `rows` of ours that are its rows, in its
    order; `convolves`, whether it is a convolution of more than a place.
    """

    path: str
    layer: str
    index: int | None
    rows: np.ndarray
    convolves: bool


def modules_of(flow_map: Any, shape: tuple[int, ...]) -> dict[str, Module]:
    """The modules of a map for examples of `shape`, by their paths in the layout of its network.

    A network that nobody published has our own names, the layer before the last part:
    `blocks.3.qkv`. Of layers that a layout keeps in another way than by rows there is none.
    """
    _, network = network_of(flow_map)
    table = table_of(network, shape)
    found: dict[str, Module] = {}
    for name, layer in layers(network).items():
        made = _ours(name, layer) if table is None else _theirs(name, layer, table)
        found |= {module.path: module for module in made}
    return found


def component_of(flow_map: Any) -> str:
    """What diffusers calls the network in a pipeline."""
    _, network = network_of(flow_map)
    return "unet" if "UNet" in type(network).__name__ else "transformer"


def _ours(name: str, layer: Layer) -> Iterator[Module]:
    rows, depth = np.arange(_sizes(layer)[0]), _depth(layer)
    *before, last = name.split(".")
    for index in range(depth or 1):
        path = name if depth is None else ".".join([*before, str(index), last])
        place = None if depth is None else index
        yield Module(path, name, place, rows, isinstance(_base(layer), Conv))


def _theirs(name: str, layer: Layer, table: Table) -> Iterator[Module]:
    entry = table.entries.get(f"{name}.weight")
    parts = None if entry is None else _rows(entry, layer)
    if entry is None or parts is None:
        return
    depth = _depth(layer)
    for index in range(depth or 1):
        for key, rows in zip(entry.keys, parts, strict=True):
            path = key.replace("{}", str(index))
            for ending in ENDINGS:
                path = path.removesuffix(ending)
            place = None if depth is None else index
            yield Module(path, name, place, rows, isinstance(_base(layer), Conv))


def _rows(entry: Entry, layer: Layer) -> list[np.ndarray] | None:
    """The rows of ours that each of their arrays has; None where theirs are not made of rows.

    Their arrays are made of one of ours that holds the number of its row everywhere, and of one
    that holds that of its column.
    """
    shape = tuple(layer.weight.shape)[0 if _depth(layer) is None else 1 :]
    out, inside = (-1, -2) if isinstance(_base(layer), Conv) else (0, 1)
    found = []
    for_rows, for_columns = (
        entry.transform.theirs(_numbered(shape, axis)) for axis in (out, inside)
    )
    for rows, columns in zip(for_rows, for_columns, strict=True):
        for axes in ((0, 1), (1, 0)):  # torch's order, and flax's
            along, across = (_along(array, axis) for array, axis in zip((rows, columns), axes))
            if along is not None and across is not None:
                break
        else:
            return None
        if not np.array_equal(across, np.arange(shape[inside])):
            return None
        found.append(along)
    return found


def _numbered(shape: tuple[int, ...], axis: int) -> np.ndarray:
    """An array of `shape` that holds the place along an axis."""
    sizes = [1] * len(shape)
    sizes[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis]).reshape(sizes), shape)


def _along(array: np.ndarray, axis: int) -> np.ndarray | None:
    """The values along an axis where they are the same along all others, else None."""
    rest = tuple(range(array.ndim))
    moved = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    same = rest and bool((moved == moved[:, :1]).all())
    return moved[:, 0] if same else None


def _base(layer: Layer) -> Any:
    return getattr(layer, "base", layer)


def _depth(layer: Layer) -> int | None:
    """How many layers are stacked; None where one stands alone."""
    shape = layer.weight.shape
    axes = 4 if isinstance(_base(layer), Conv) else 2
    return shape[0] if len(shape) > axes else None


def _sizes(layer: Layer) -> tuple[int, int]:
    """Rows and columns."""
    shape = layer.weight.shape
    return (shape[-1], shape[-2]) if isinstance(_base(layer), Conv) else (shape[-2], shape[-1])


def by_layer(modules: Mapping[str, Module]) -> dict[str, list[Module]]:
    """The modules of each layer of ours, in their order."""
    found: dict[str, list[Module]] = {}
    for module in modules.values():
        found.setdefault(module.layer, []).append(module)
    return found
