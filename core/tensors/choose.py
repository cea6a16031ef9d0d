"""Which tensors of a file are meant: training checkpoints hold several sets."""

from collections.abc import Mapping
from typing import Any

from core.errors import UserError
from core.tensors.machine import shown
from core.tensors.view import LazyTensor

CHOICES = ("ema", "ema_params", "model", "params", "state_dict")
"""Where the tensors lie, tried in this order: averages first, by the names of torch's files and
of flax's."""
MEANT = {"ema": ("ema", "ema_params"), "model": ("model", "params", "state_dict")}
"""The places that a word stands for."""
PREFIXES = ("module.", "_orig_mod.", "net.", "model.")
"""What wrappers put before every name: parallel training, compilation, a module around a module."""
DEEPEST = 8


def chosen(tree: Any, name: str, which: str | None = None) -> tuple[str, dict[str, LazyTensor]]:
    """The place and the tensors of the set that is meant: `which`, or the first of `CHOICES` that
    is there, or the object itself where all its values are tensors. Prefixes of `PREFIXES` that
    every name has are left out.

    Raises `UserError` where there is no such set.
    """
    if which is not None:
        places = MEANT.get(which, (which,)) if isinstance(tree, dict) else ()
        there = [place for place in places if tree.get(place) is not None]
        if not there:
            raise UserError(f"{name} has no weights {which!r}; it has {_keys(tree)}")
        return there[0], stripped(_tensors(tree[there[0]], f"{name}: {there[0]}"))
    for choice in CHOICES:
        if isinstance(tree, dict) and isinstance(tree.get(choice), dict) and tree[choice]:
            return choice, stripped(_tensors(tree[choice], f"{name}: {choice}"))
    return "", stripped(_tensors(tree, name))


def stripped(tensors: Mapping[str, LazyTensor]) -> dict[str, LazyTensor]:
    """The same without the prefixes that every name has."""
    names = list(tensors)
    while names:
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in names)), None)
        if prefix is None:
            break
        names = [n.removeprefix(prefix) for n in names]
    return dict(zip(names, tensors.values()))


def _tensors(tree: Any, name: str) -> dict[str, LazyTensor]:
    """A dictionary of tensors by name, one in another with their names joined by dots."""
    if not isinstance(tree, dict):
        raise UserError(f"{name} is no dictionary of tensors; save a state_dict")
    found: dict[str, LazyTensor] = {}
    levels: list[tuple[str, dict, int]] = [("", tree, 0)]
    opened = {id(tree)}  # a dictionary that lies in two places is taken once
    while levels:
        before, here, depth = levels.pop()
        for key, value in here.items():
            if isinstance(value, LazyTensor):
                found[f"{before}{key}"] = value
            elif isinstance(value, dict) and depth < DEEPEST and id(value) not in opened:
                opened.add(id(value))
                levels.append((f"{before}{key}.", value, depth + 1))
            elif not isinstance(value, dict):
                raise UserError(
                    f"{name} holds {shown(f'{before}{key}')!r}, which is no tensor; it has "
                    f"{_keys(tree)}: name the weights that are meant"
                )
    if not found:
        raise UserError(f"{name} holds no tensors")
    return found


def _keys(tree: Any) -> str:
    """The first keys of a dictionary, for a message."""
    if not isinstance(tree, dict):
        return "no names"
    names = [shown(str(key)) for key in list(tree)[:5]]
    return ", ".join(names) + (" ..." if len(tree) > 5 else "") or "no names"
