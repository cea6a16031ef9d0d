"""The layers of a map that can be adapted, by their place in it."""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import equinox as eqx
import jax

from core.adapters.low_rank import LowRank
from core.errors import UserError
from core.nets.convolutional import Conv
from core.nets.layers import Dense

Tree = TypeVar("Tree")
Layer = Dense | Conv | LowRank

DEFAULT = (
    *("*.qkv", "*.q", "*.k", "*.v", "*.merge", "*.proj", "*.up", "*.down"),
    *("*.conv_[0-9]", "*.hidden.[0-9]*"),
)
"""Layers that are adapted where none are named: of transformers attention and MLP, of U-Nets
attention and the convolutions of their blocks, of the network for points the hidden layers."""


def layers(tree: Any) -> dict[str, Layer]:
    """The layers by their place, such as `net.blocks.qkv`: the name of their weights in
    `weights.safetensors` without its last part."""
    found = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_layer)
    return {named(path): node for path, node in found if _is_layer(node)}


def matching(tree: Any, patterns: Iterable[str]) -> list[str]:
    """The places of the layers that one of the patterns (`fnmatch`) names. Raises `UserError` where
    there is none, or none for a pattern that is not among those by default."""
    there, patterns = layers(tree), tuple(patterns)
    for pattern in patterns:
        if pattern not in DEFAULT and not any(fnmatchcase(name, pattern) for name in there):
            some = ", ".join(list(there)[:5]) or "no dense layer and no plain convolution"
            raise UserError(
                f"--adapter.layers {pattern} names no layer of this network, which has {some}"
                f"{' ...' if len(there) > 5 else ''}"
            )
    found = [name for name in there if any(fnmatchcase(name, one) for one in patterns)]
    if not found:
        raise UserError(
            "no layer of this network is adapted by --adapter.layers: name some of "
            f"{', '.join(list(there)[:5])}"
            if there
            else "this network has no dense layer and no plain convolution, so that no "
            "--adapter.rank fits it; train it in full"
        )
    return found


def swapped(tree: Tree, swap: Callable[[str, Layer], Any]) -> Tree:
    """The tree with `swap(place, layer)` in the place of each layer."""

    def at(path: tuple, node: Any) -> Any:
        return swap(named(path), node) if _is_layer(node) else node

    return jax.tree_util.tree_map_with_path(at, tree, is_leaf=_is_layer)


def network_of(flow_map: Any) -> tuple[str, Any]:
    """The network inside of maps and wrappers, and its place, such as `net.`; names of layers and
    arrays after it do not depend on the form of the map."""
    place, node = "", flow_map
    while True:
        for name in ("flow_map", "net"):
            inner = getattr(node, name, None)
            if isinstance(inner, eqx.Module):
                place, node = f"{place}{name}.", inner
                break
        else:
            return place, node


def named(path: tuple) -> str:
    """The place of a node, its parts joined by dots."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _is_layer(node: Any) -> bool:
    return isinstance(node, Dense | Conv | LowRank)
