"""A network from foreign arrays by a table from our names to theirs, checked both ways.

A converter is a `Table`: for each of our leaves, named as in `weights.safetensors`, the source keys
and the transform. A leaf of blocks that are stacked for the scan has keys with `{}` for the layer;
its leading axis says how many there are.

```python
table = Table({
    "patches.weight": take("x_embedder.proj.weight", torch_patches(2)),
    "blocks.qkv.weight": take("blocks.{}.attn.qkv.weight"),
}, left_out=("*.mask_token",))
net = filled(skeleton, table, open_tensors("SiT-XL-2-256.pt"))
```
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, TypeVar

import jax
import numpy as np

from core.errors import UserError
from core.layouts.transforms import Transform, same
from core.tensors import LazyTensor

Tree = TypeVar("Tree")
Tensor = LazyTensor | np.ndarray | jax.Array
MOST = 5
"""How many names of a kind a message has."""


@dataclass(frozen=True)
class Entry:
    """Where one of our leaves comes from: source keys, and the transform that takes them all."""

    keys: tuple[str, ...]
    transform: Transform

    def __post_init__(self):
        if len({"{}" in key for key in self.keys}) != 1:
            raise ValueError(f"all keys or none are of a layer: {self.keys}")

    @property
    def stacked(self) -> bool:
        """Whether the leaf holds one array for each layer."""
        return "{}" in self.keys[0]


@dataclass(frozen=True)
class Table:
    """**Fields:** `entries` by our names; `left_out`, patterns (`fnmatch`) of source keys that are
    knowingly not used."""

    entries: Mapping[str, Entry]
    left_out: tuple[str, ...] = ()


def take(keys: str | tuple[str, ...], transform: Transform = same) -> Entry:
    """The entry of one source key, or of several that make one leaf."""
    return Entry((keys,) if isinstance(keys, str) else keys, transform)


def names(tree: Any) -> dict[str, Any]:
    """The arrays of a network, or their shapes, by their place in it."""
    return dict(_places(tree))


def filled(skeleton: Tree, table: Table, tensors: Mapping[str, Tensor]) -> Tree:
    """`skeleton` with the numbers of `tensors`.

    **Arguments:** `skeleton` a network with shapes for arrays, from `equinox.filter_eval_shape`, so
    that no random number is made; `tensors` by source key. Of these one layer at a time is read,
    and all is checked before the first. **Returns:** the network with JAX arrays in the skeleton's
    precision. **Raises:** `UserError`, one line, unless each leaf is filled once, each source key
    is used or left out by the table, and shapes agree.
    """
    wanted = names(skeleton)
    _check(wanted, table, tensors)

    def fill(path: tuple, leaf: Any) -> Any:
        name = _name(path)
        return _leaf(wanted[name], table.entries[name], tensors) if name in wanted else leaf

    return jax.tree_util.tree_map_with_path(fill, skeleton)


def unfilled(net: Any, table: Table) -> dict[str, np.ndarray]:
    """The arrays of a network by their source keys: the inverse of `filled`.

    What conversion left out is missing, or zero where it is a part of an array. Raises `UserError`
    where the table is not for this network.
    """
    leaves = names(net)
    _raise(_unknown(leaves, table))
    found: dict[str, np.ndarray] = {}
    for name, leaf in leaves.items():
        entry, array = table.entries[name], np.asarray(leaf)
        parts = array if entry.stacked else array[None]
        for layer, part in enumerate(parts):
            for key, value in zip(_keys(entry, layer), entry.transform.theirs(part), strict=True):
                found[key] = np.array(value, order="C")
    return found


def left_out(table: Table, tensors: Iterable[str]) -> list[str]:
    """The source keys that the table knowingly does not use."""
    return [key for key in tensors if any(fnmatchcase(key, p) for p in table.left_out)]


def _leaf(like: Any, entry: Entry, tensors: Mapping[str, Tensor]) -> jax.Array:
    array = np.empty(like.shape, like.dtype)
    layers = array if entry.stacked else array[None]
    for layer in range(len(layers)):
        sources = (np.asarray(tensors[key]) for key in _keys(entry, layer))
        layers[layer] = entry.transform.ours(*sources)
    return jax.device_put(array)  # jnp.asarray compiles a program for every shape


def _keys(entry: Entry, layer: int) -> list[str]:
    return [key.replace("{}", str(layer)) for key in entry.keys]


def _check(wanted: Mapping[str, Any], table: Table, tensors: Mapping[str, Tensor]) -> None:
    faults = _unknown(wanted, table)
    expected: dict[str, tuple[int, ...]] = {}
    for name, leaf in wanted.items():
        entry = table.entries.get(name)
        for key, shape in _expected(entry, tuple(leaf.shape)) if entry else ():
            if key in expected:
                raise ValueError(f"two leaves take {key}")
            expected[key] = shape
    spare = set(left_out(table, tensors))
    faults += _listed("missing", [key for key in expected if key not in tensors])
    faults += _listed("not used", [k for k in tensors if k not in expected and k not in spare])
    other = [
        f"{key} is {tuple(tensors[key].shape)}, the network has {shape}"
        for key, shape in expected.items()
        if key in tensors and tuple(tensors[key].shape) != shape
    ]
    _raise(faults + other[:MOST] + ([f"{len(other) - MOST} more"] if len(other) > MOST else []))


def _unknown(wanted: Mapping[str, Any], table: Table) -> list[str]:
    """What network and table do not have in common."""
    without = [name for name in wanted if name not in table.entries]
    faults = _listed("the layout does not fill", without)
    return faults + _listed(
        "the network lacks", [name for name in table.entries if name not in wanted]
    )


def _listed(what: str, found: list[str]) -> list[str]:
    more = f" and {len(found) - MOST} more" if len(found) > MOST else ""
    return [f"{what}: {', '.join(found[:MOST])}{more}"] if found else []


def _raise(faults: list[str]) -> None:
    if faults:
        raise UserError(
            f"the weights are not of this network: {'; '.join(faults)}; choose another layout, or "
            "the options of the network that they are of"
        )


def _expected(entry: Entry, shape: tuple[int, ...]) -> list[tuple[str, tuple[int, ...]]]:
    """The source keys of a leaf with their shapes."""
    layers = shape[0] if entry.stacked else 1
    shapes = _their_shapes(entry.transform, shape[1:] if entry.stacked else shape)
    return [pair for n in range(layers) for pair in zip(_keys(entry, n), shapes, strict=True)]


@lru_cache(maxsize=1024)
def _their_shapes(transform: Transform, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes that become one of ours, by the inverse: zeros that take no room."""
    return tuple(array.shape for array in transform.theirs(np.broadcast_to(np.float32(0), shape)))


def _places(tree: Any) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_leaves_with_path(tree)
    arrays = jax.Array | np.ndarray | jax.ShapeDtypeStruct
    return [(_name(path), leaf) for path, leaf in found if isinstance(leaf, arrays)]


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
