"""The weights of one map inside another of the same network."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from core.flow.flow_map import DataEndMap, FlowMap

COMPUTATION = ("encoder_depth", "dtype", "remat", "unroll", "attention", "implementation")
COMPUTATION += ("interval", "dropout", "drop_rate")
"""Options of a network or map under which the same weights may be used."""


def warm_started(source: FlowMap, student: FlowMap) -> FlowMap | None:
    """The student with the weights of `source`; None where network or form are not the same.

    They may differ in how the network computes, and in how deep its encoder is: a velocity network
    becomes a decoupled flow map as it stands.
    """
    if isinstance(source, DataEndMap):
        source = source.flow_map
    if isinstance(student, DataEndMap):
        inner = warm_started(source, student.flow_map)
        return None if inner is None else DataEndMap.of(inner)
    if _meaning(source) != _meaning(student):
        return None
    arrays, static = eqx.partition(student, eqx.is_array)
    leaves = [jnp.copy(leaf) for leaf in jax.tree.leaves(eqx.filter(source, eqx.is_array))]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), static)


def _meaning(node: Any) -> Any:
    """The structure of a network: classes, options and shapes, as plain values."""
    if eqx.is_array(node):
        return node.shape
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        kept = [item.name for item in dataclasses.fields(node) if item.name not in COMPUTATION]
        return type(node).__name__, {name: _meaning(getattr(node, name)) for name in kept}
    if isinstance(node, list | tuple):
        return [_meaning(item) for item in node]
    return getattr(node, "__name__", node)
