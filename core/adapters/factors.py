"""Adapters as plain arrays, apart from the map: taken out of one, put into another, summed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np

from core.adapters.adapted import is_numbers, trained
from core.adapters.low_rank import LowRank
from core.adapters.places import layers, named, network_of, swapped
from core.errors import UserError
from core.methods.warm_start import later_names

Tree = TypeVar("Tree")
MOST = 5
"""How many names of a kind a message has."""


@dataclass(frozen=True)
class Factors:
    """The change `scale B A` of one layer: arrays as `LowRank` has them."""

    A: np.ndarray
    B: np.ndarray
    scale: float

    @property
    def rank(self) -> int:
        """`r`."""
        return self.B.shape[-1]

    def change(self, like: Any) -> np.ndarray:
        """`scale B A` in the layout of the layer's weights `like`. Raises `UserError` where it has
        another shape."""
        A, B = (np.asarray(array, np.promote_types(array.dtype, np.float32)) for array in self)
        convolves = A.ndim - B.ndim == 2
        if convolves:
            product = A.reshape(*A.shape[:-4], -1, A.shape[-1]) @ np.swapaxes(B, -1, -2)
            product = product.reshape(*A.shape[:-1], B.shape[-2])
        else:
            product = B @ A
        if product.shape != tuple(like.shape):
            raise UserError(f"is of shape {product.shape}, the layer of {tuple(like.shape)}")
        return np.asarray(self.scale, product.dtype) * product

    def __iter__(self):
        return iter((self.A, self.B))


@dataclass(frozen=True)
class Adapter:
    """An adapter by the names of layers in the network, without the map around it.

    **Fields:** `layers` the factors; `whole` arrays that were trained in full, by name; `base` the
    fingerprint of the weights that it was trained on, empty where that is not known; `name` in
    messages.
    """

    layers: Mapping[str, Factors]
    whole: Mapping[str, np.ndarray] = field(default_factory=dict)
    base: str = ""
    name: str = "the adapter"

    @property
    def size(self) -> int:
        """How many numbers it has."""
        arrays = [array for one in self.layers.values() for array in one]
        return sum(array.size for array in [*arrays, *self.whole.values()])


def adapter_of(tree: Any, name: str = "the adapter") -> Adapter:
    """The adapter of a map, with what is trained in full beside it."""
    (place, network), fresh = network_of(tree), later_names(tree)
    found = {
        one: Factors(np.asarray(layer.A), np.asarray(layer.B), layer.scale)
        for one, layer in layers(network).items()
        if isinstance(layer, LowRank)
    }
    whole = {
        named(path).removeprefix(place): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if is_numbers(leaf) and named(path) in fresh
    }
    return Adapter(found, whole, base_print(tree), name)


def merged(tree: Tree) -> Tree:
    """The map without adapters, whose layers have the changed weights `W + scale B A`."""

    def swap(name: str, layer: Any) -> Any:
        if not isinstance(layer, LowRank):
            return layer
        change = Factors(np.asarray(layer.A), np.asarray(layer.B), layer.scale)
        return _changed(layer.base, change.change(layer.base.weight))

    return swapped(tree, swap)


def with_adapters(tree: Tree, added: Sequence[tuple[Adapter, float]]) -> Tree:
    """The map with weights `W + sum_k w_k scale_k B_k A_k`; `added` has adapters and their weights.

    Arrays that an adapter has in full are moved from those of the map to its own by `w_k`. Raises
    `UserError` for layers that the map has not, or of another shape.
    """
    tree = merged(tree)
    place, network = network_of(tree)
    there = layers(network)
    arrays = {named(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
    changes: dict[str, np.ndarray] = {}
    moved: dict[str, np.ndarray] = {}
    for adapter, weight in added:
        _check(adapter, there, {name.removeprefix(place) for name in arrays})
        for name, factors in adapter.layers.items():
            try:
                change = np.float32(weight) * factors.change(there[name].weight)
            except UserError as error:
                raise UserError(f"{adapter.name}: its change of {name} {error}") from None
            changes[name] = changes[name] + change if name in changes else change
        for name, values in adapter.whole.items():
            here = np.asarray(arrays[place + name])
            moved[name] = moved.get(name, 0) + np.float32(weight) * (values - here)

    def swap(name: str, layer: Any) -> Any:
        change = changes.get(name.removeprefix(place))
        return layer if change is None else _changed(layer, change)

    def move(path: tuple, leaf: Any) -> Any:
        change = moved.get(named(path).removeprefix(place))
        return leaf if change is None else _sum(leaf, change)

    return jax.tree_util.tree_map_with_path(move, swapped(tree, swap))


def unmerged(tree: Tree, adapter: Adapter) -> Tree:
    """The map without the change of an adapter that was merged into it; equal to that before by
    rounding."""
    return with_adapters(tree, [(adapter, -1.0)])


def base_print(tree: Any) -> str:
    """The SHA-256 of the weights that an adapter stands on: of all arrays of the map that are not
    trained, each by its name in the network, type, shape and numbers."""
    still = eqx.filter(tree, trained(tree), inverse=True)
    place, _ = network_of(tree)
    found = hashlib.sha256()
    leaves = {
        named(path).removeprefix(place).replace(".base.", "."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(still)
        if is_numbers(leaf)
    }
    for name in sorted(leaves):
        values = np.ascontiguousarray(leaves[name])
        found.update(f"{name} {values.dtype} {values.shape}\n".encode())
        found.update(values.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _check(adapter: Adapter, there: Mapping[str, Any], arrays: set[str]) -> None:
    unknown = [name for name in adapter.layers if name not in there]
    unknown += [name for name in adapter.whole if name not in arrays]
    if unknown:
        more = f" and {len(unknown) - MOST} more" if len(unknown) > MOST else ""
        raise UserError(
            f"{adapter.name} changes {', '.join(unknown[:MOST])}{more}, which this network has "
            "not: it is for another network"
        )


def _changed(layer: Any, change: np.ndarray) -> Any:
    return eqx.tree_at(lambda one: one.weight, layer, _sum(layer.weight, change))


def _sum(array: Any, change: np.ndarray) -> jax.Array:
    """Both together, in the precision of the array."""
    values = np.asarray(array)
    return jax.device_put((values + change.astype(np.float32)).astype(values.dtype))
