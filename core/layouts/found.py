"""What a layout finds in the tensors of a file: which network they are of."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Key

from core.errors import UserError
from core.layouts.table import Table, Tensor, filled
from core.nets.config import NetworkConfig

Config = TypeVar("Config", bound=NetworkConfig)
MOST_DIGITS = 7
"""Longer numbers in names are of no layer and no resolution."""


@dataclass(frozen=True)
class Found(Generic[Config]):
    """A network by its flags, for examples of `shape`; 0 classes are none. `table` fills it.

    `prediction` is what it predicts (`core.nets.native.flow_map_of`; None: its output is used as it
    is; "edm": EDM's preconditioning stands around it, `core.layouts.edm.edm_map`), `assumed` one
    line of what the file does not tell.
    """

    config: Config
    shape: tuple[int, ...]
    num_classes: int
    table: Table
    prediction: str | None = None
    assumed: str = ""

    def skeleton(self) -> Any:
        """The network with shapes for arrays; no number is drawn."""
        return shaped(lambda key: self.config.build(self.shape, self.num_classes, key=key))

    def network(self, tensors: Mapping[str, Tensor]) -> Any:
        """The network with these numbers. Raises `UserError` where they are not of it."""
        return filled(self.skeleton(), self.table, tensors)


def shaped(make: Any) -> Any:
    """What `make(key)` returns, with shapes for arrays."""
    key = jax.eval_shape(lambda: jax.random.key(0))

    def made(key: Key[Array, ""]) -> Any:
        return make(key)

    return eqx.filter_eval_shape(made, jax.ShapeDtypeStruct(key.shape, key.dtype))


def shape_of(tensors: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    """The shape of a tensor. Raises `UserError` where there is none of that name."""
    if key not in tensors:
        some = ", ".join(list(tensors)[:5])
        raise UserError(
            f"the weights have no {key}; they have {some}{' ...' if len(tensors) > 5 else ''}: "
            "choose another layout"
        )
    return tuple(tensors[key].shape)


def numbers(pattern: str, names: Iterable[str]) -> list[int]:
    """The different whole numbers that a pattern's only group finds in names, in order."""
    found = (re.match(pattern, name) for name in names)
    return sorted({int(one[1]) for one in found if one and len(one[1]) < MOST_DIGITS})


def prefix_of(tensors: Mapping[str, Tensor], prefix: str, mark: str) -> str:
    """`prefix` where names that hold `mark` begin with it, else nothing."""
    return prefix if any(name.startswith(f"{prefix}{mark}") for name in tensors) else ""
