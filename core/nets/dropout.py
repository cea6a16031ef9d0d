"""Dropout: hidden numbers that are set to zero at random while a network is trained.

A network holds its `Dropout` with no key, and then nothing is dropped: in sampling, in evaluation,
in targets and in teachers. Where the loss of a row is taken, `with_masks` puts the row's key into
the networks that are trained, so that all evaluations in this loss, and the derivative of one, have
one mask.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

Tree = TypeVar("Tree")


class Dropout(eqx.Module):
    """The share of hidden numbers that are dropped, and the key of the mask; None drops nothing."""

    rate: float = eqx.field(static=True)
    key: Key[Array, ""] | None = None

    def keys(self, layers: int, part: int = 0) -> Key[Array, " layers"] | None:
        """A key for each layer of a part of the network."""
        return None if self.key is None else jr.split(jr.fold_in(self.key, part), layers)


def layer_keys(held: Dropout | None, layers: int) -> Iterator[Key[Array, ""] | None]:
    """A key for each layer of a network, one after another; None where nothing is dropped."""
    keys = None if held is None else held.keys(layers)
    return iter([None] * layers if keys is None else keys)


def dropout(rate: float) -> Dropout | None:
    """The dropout of a network; None for none, so that the network is what it is without."""
    return Dropout(rate) if rate > 0 else None


def thinned(
    x: Float[Array, "*shape"], rate: float, key: Key[Array, ""] | None
) -> Float[Array, "*shape"]:
    """`x / (1 - rate)` with each number zero with probability `rate`; `x` without a key. Its mean
    is `x`."""
    if key is None:
        return x
    return jnp.where(jr.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def with_masks(tree: Tree, key: Key[Array, ""]) -> Tree:
    """The networks in `tree` with the masks of this key; the same object where none has dropout."""
    if not has_dropout(tree):
        return tree
    return jax.tree.map(
        lambda node: dataclasses.replace(node, key=key) if _is(node) else node, tree, is_leaf=_is
    )


def has_dropout(tree: Any) -> bool:
    """Whether a network in `tree` has dropout."""
    return any(_is(node) for node in jax.tree.leaves(tree, is_leaf=_is))


def _is(node: Any) -> bool:
    return isinstance(node, Dropout)
