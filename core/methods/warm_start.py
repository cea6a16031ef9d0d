"""The weights of one map inside another of the same network.

Weights go by name, their place in the network. The other map may be of another form, since what a
published network predicts is converted (`core.nets.suited`), and its network may have inputs that
the first has not, where they add zero at the start (`core.nets.later_inputs`).
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from core.flow.flow_map import DataEndMap, FlowMap
from core.nets.embeddings import Embedding
from core.nets.later_inputs import LaterInput
from core.nets.suited import core_of, prediction_of
from core.nets.warped import WarpedTimes

COMPUTATION = ("encoder_depth", "dtype", "remat", "unroll", "attention", "implementation")
COMPUTATION += ("interval", "dropout", "drop_rate")
"""Options of a network or map under which the same weights may be used."""
LATER = ("predicts", "second_time", "guidance", "takes_guidance")
"""Options of what a network receives later, and of how its output is read."""
MOST = 3
"""How many names a message has."""


def warm_started(source: FlowMap, student: FlowMap) -> FlowMap | None:
    """The student with the weights of `source`; None where network or form are not the same
    (`unlike` says in what).

    They may differ in how the network computes, and in how deep its encoder is: a velocity network
    becomes a decoupled flow map as it stands. Where the student has later inputs that the source
    lacks, these are zero, and its diagonal is the source's velocity.
    """
    if isinstance(source, DataEndMap):
        source = source.flow_map
    if isinstance(student, DataEndMap):
        inner = warm_started(source, student.flow_map)
        return None if inner is None else DataEndMap.of(inner)
    if _meaning(source) != _meaning(student):
        return None if unlike(source, student) else _by_name(source, student)
    arrays, static = eqx.partition(student, eqx.is_array)
    pairs = zip(jax.tree.leaves(eqx.filter(source, eqx.is_array)), jax.tree.leaves(arrays))
    leaves = [jnp.copy(leaf).astype(own.dtype) for leaf, own in pairs]
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(arrays), leaves), static)


def unlike(source: FlowMap, student: FlowMap) -> list[str]:
    """In what the networks of two maps differ, so that the weights of the one are none of the
    other: options, names of weights, or shapes, a few of each. Empty where nothing does."""
    there, here = core_of(source), core_of(student)
    if isinstance(here, WarpedTimes) and not isinstance(there, WarpedTimes):
        return ["the network gets the time as it is there; here too with --plugin.conditioning 0"]
    if type(there) is not type(here):
        return [f"{type(there).__name__} there, {type(here).__name__} here"]
    if _reading(source) != _reading(student):
        return [f"the output is {_word(source)} there, {_word(student)} here"]
    old, new = dict(_options(there)), dict(_options(here))
    found = [f"{name} {old[name]} there, {new[name]} here" for name in old.keys() & new.keys()
             if old[name] != new[name]]  # fmt: skip
    leaves, wanted, zero = _leaves(there), _leaves(here), later_names(here)
    found += [f"{name} is not there" for name in wanted if name not in leaves and name not in zero]
    found += [f"{name} is not here" for name in leaves if name not in wanted]
    found += [
        f"{name} is {leaves[name].shape} there, {wanted[name].shape} here"
        for name in wanted
        if name in leaves and leaves[name].shape != wanted[name].shape
    ]
    more = len(found) - MOST
    return sorted(found[:MOST]) + ([f"{more} more"] if more > 0 else [])


def later_names(net: Any) -> frozenset[str]:
    """The weights of later inputs, without which the network may be the same: those of a
    `LaterInput`, and of the guidance that an `Embedding` takes, where they can be zero."""
    names: set[str] = set()
    for place, part in _parts(net):
        if isinstance(part, LaterInput):
            names |= {f"{place}{name}" for name in _leaves(part)}
        if isinstance(part, Embedding) and part.guidance and not part.state:
            last = len(part.inputs)
            scales = {f"inputs.{n}" for n in range(last - 3, last)}
            names |= {f"{place}{n}" for n in _leaves(part) if n.rpartition(".")[0] in scales}
    return frozenset(names)


def _by_name(source: FlowMap, student: FlowMap) -> FlowMap:
    """The student's network with the leaves of the same name. Of the others those of a `LaterInput`
    add zero as they are; those of an `Embedding` are set to zero."""
    here = core_of(student)
    old, fresh = _copied(_leaves(core_of(source))), later_names(here)
    kept = {f"{place}{name}" for place, part in _parts(here) if isinstance(part, LaterInput)
            for name in _leaves(part)}  # fmt: skip

    def fill(path: tuple, leaf: Any) -> Any:
        name = _name(path)
        if name in old:
            return old[name].astype(leaf.dtype)
        return jnp.zeros_like(leaf) if name in fresh - kept else leaf

    return eqx.tree_at(core_of, student, jax.tree_util.tree_map_with_path(fill, here))


@jax.jit
def _copied(leaves: Any) -> Any:
    """Arrays of their own, which may be donated: one program, whatever shapes there are."""
    return jax.tree.map(jnp.copy, leaves)


def _reading(flow_map: FlowMap) -> Any:
    """How a map takes what its network says, without the network."""
    return prediction_of(flow_map) or _meaning(eqx.tree_at(core_of, flow_map, None))


def _word(flow_map: FlowMap) -> str:
    return prediction_of(flow_map) or f"that of a {type(flow_map).__name__}"


def _leaves(tree: Any) -> dict[str, Any]:
    """The arrays of a network, or their shapes, by their place in it."""
    found = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, _is_array))
    return {_name(path): leaf for path, leaf in found}


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _parts(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The modules of a network, each with its place and a dot behind it."""
    if isinstance(node, eqx.Module):
        yield place, node
        for item in dataclasses.fields(node):
            yield from _parts(getattr(node, item.name, None), f"{place}{item.name}.")
    elif isinstance(node, list | tuple):
        for n, item in enumerate(node):
            yield from _parts(item, f"{place}{n}.")
    elif isinstance(node, dict):
        for name, item in node.items():
            yield from _parts(item, f"{place}{name}.")


def _options(node: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The options of a network by their place, without those that may differ."""
    if _is_array(node):
        return
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        for item in dataclasses.fields(node):
            if item.name not in COMPUTATION + LATER:
                yield from _options(getattr(node, item.name, None), f"{place}{item.name}.")
    elif isinstance(node, list | tuple) and any(map(_is_part, node)):
        for n, item in enumerate(node):
            yield from _options(item, f"{place}{n}.")
    elif isinstance(node, dict):
        for name, item in node.items():
            yield from _options(item, f"{place}{name}.")
    else:
        yield place[:-1], getattr(node, "__name__", node)


def _is_part(node: Any) -> bool:
    return _is_array(node) or dataclasses.is_dataclass(node)


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
