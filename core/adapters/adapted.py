"""A map with adapters around some of its layers, and what of it is trained."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from core.adapters.low_rank import LowRank
from core.adapters.places import DEFAULT, layers, matching, named, swapped
from core.errors import require
from core.methods.warm_start import later_names
from core.nets.convolutional import Conv

Tree = TypeVar("Tree")


def adapted(
    tree: Tree,
    patterns: Iterable[str] = DEFAULT,
    *,
    rank: int,
    alpha: float | None = None,
    rs: bool = False,
    key: Key[Array, ""],
) -> Tree:
    """The map with `LowRank` around the layers that `patterns` name; it computes the same.

    `A` is normal with standard deviation `1 / sqrt(inputs)`, `B` zero. The scale is `alpha / rank`,
    with `rs` `alpha / sqrt(rank)`; `alpha` is the rank by default. Sources: LoRA (arXiv
    2106.09685); rsLoRA (arXiv 2312.03732). Raises `UserError` where nothing matches, for a rank
    below 1, and for a map that has adapters already.
    """
    shapes = _shapes(tree, patterns, rank)
    drawn = jr.normal(key, (sum(math.prod(shape) for shape in shapes.values()),), jnp.float32)
    numbers, start = np.asarray(drawn), 0
    down: dict[str, Any] = {}
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        inputs = math.prod(shape[-4:-1]) if _convolves(tree, name) else shape[-1]
        values = numbers[start:stop].reshape(shape) * np.float32(1 / math.sqrt(inputs))
        down[name], start = jax.device_put(values), stop
    return _wrapped(tree, down, scale_of(rank, alpha, rs))


def adapted_shapes(
    tree: Tree, patterns: Iterable[str], *, rank: int, alpha: float | None, rs: bool
) -> Tree:
    """The same for a map that has shapes for arrays, without a number."""

    def make(tree: Tree) -> Tree:
        shapes = _shapes(tree, patterns, rank)
        down = {name: jnp.zeros(shape, jnp.float32) for name, shape in shapes.items()}
        return _wrapped(tree, down, scale_of(rank, alpha, rs))

    return eqx.filter_eval_shape(make, tree)


def scale_of(rank: int, alpha: float | None, rs: bool = False) -> float:
    """The scale of a change of this rank."""
    require(rank >= 1, f"--adapter.rank must be at least 1, got {rank}")
    alpha = rank if alpha is None else alpha
    return alpha / math.sqrt(rank) if rs else alpha / rank


def is_adapted(tree: Any) -> bool:
    """Whether a map has adapters."""
    return any(isinstance(layer, LowRank) for layer in layers(tree).values())


def trained(tree: Any) -> Any:
    """For each leaf whether it is trained: `A` and `B` of adapters, and the weights of inputs that
    a network has beyond those that it was trained with first (`later_names`), in full; of a map
    without adapters all numbers."""
    if not is_adapted(tree):
        return jax.tree.map(is_numbers, tree)
    fresh = later_names(tree)

    def at(path: tuple, node: Any) -> Any:
        if isinstance(node, LowRank):
            still = jax.tree.map(lambda _: False, node)
            return eqx.tree_at(lambda layer: (layer.A, layer.B), still, (True, True))
        return is_numbers(node) and named(path) in fresh

    is_leaf = lambda node: isinstance(node, LowRank)  # noqa: E731
    return jax.tree_util.tree_map_with_path(at, tree, is_leaf=is_leaf)


def count(tree: Any) -> int:
    """How many layers have an adapter, those of a stack one by one."""
    found = [layer for layer in layers(tree).values() if isinstance(layer, LowRank)]
    return sum(layer.B.shape[0] if layer.B.ndim == 3 else 1 for layer in found)


def parts(tree: Tree) -> Tree:
    """The trained arrays alone, None for all else."""
    return eqx.filter(tree, trained(tree))


def is_numbers(leaf: Any) -> bool:
    """Whether a leaf holds numbers that could be trained, or the shape of such."""
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct | np.ndarray) and jnp.issubdtype(
        leaf.dtype, jnp.inexact
    )


def _shapes(tree: Any, patterns: Iterable[str], rank: int) -> dict[str, tuple[int, ...]]:
    """The shape of `A` of each layer that is to be adapted."""
    require(not is_adapted(tree), "this map has adapters already: merge them first")
    require(rank >= 1, f"--adapter.rank must be at least 1, got {rank}")
    there, fresh, found = layers(tree), later_names(tree), {}
    for name in matching(tree, patterns):
        if f"{name}.weight" in fresh:
            continue
        shape = there[name].weight.shape
        if isinstance(there[name], Conv):
            found[name] = (*shape[:-1], rank)
        else:
            found[name] = (*shape[:-2], rank, shape[-1])
    return found


def _wrapped(tree: Tree, down: Mapping[str, Float[Array, "..."]], scale: float) -> Tree:
    def swap(name: str, layer: Any) -> Any:
        if name not in down:
            return layer
        A, W = down[name], layer.weight
        if isinstance(layer, Conv):
            stacked, out, rank = W.shape[:-4], W.shape[-1], A.shape[-1]
        else:
            stacked, out, rank = W.shape[:-2], W.shape[-2], A.shape[-2]
        zero = np.zeros((*stacked, out, rank), np.float32)
        return LowRank(layer, A, jax.device_put(zero), scale)

    return swapped(tree, swap)


def _convolves(tree: Any, name: str) -> bool:
    return isinstance(layers(tree)[name], Conv)
