"""Pairs of matrices of foreign modules, to factors of layers of ours and back.

A layer of ours may hold several modules, as queries, keys and values in one matrix. Their changes
`B_k A_k` are together one of rank `r_1 + r_2 + r_3`, with `A` one below the other and `B` in
blocks; where all have one `A`, it is of that rank alone. The other way round, each part of a
change `B A` has its rows of `B` and the whole `A`, so any change is divided exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.adapters.factors import Adapter, Factors
from core.adapters.modules import Module, by_layer
from core.errors import UserError


@dataclass(frozen=True)
class Pair:
    """The change `scale B A` of a foreign module, in torch's layout: `A` (r, in) or (r, in, h, w),
    `B` (out, r)."""

    A: np.ndarray
    B: np.ndarray
    scale: float

    @property
    def rank(self) -> int:
        """`r`."""
        return self.B.shape[1]


def joined(
    pairs: Mapping[str, Pair], modules: Mapping[str, Module], like: Mapping[str, Any]
) -> dict[str, Factors]:
    """The factors of our layers; `like` has the layers, whose weights have their shapes. Raises
    `UserError` for a pair of another shape."""
    found = {}
    for layer, parts in by_layer(modules).items():
        given = [module for module in parts if module.path in pairs]
        if given:
            for module in given:
                _check(pairs[module.path], module, like[layer].weight.shape)
            found[layer] = _layer(given, pairs, like[layer].weight.shape)
    return found


def divided(adapter: Adapter, modules: Mapping[str, Module]) -> dict[str, Pair]:
    """The pairs of foreign modules. Raises `UserError` for a layer that has none there."""
    parts, found = by_layer(modules), {}
    unknown = [name for name in adapter.layers if name not in parts]
    if unknown or adapter.whole:
        names = ", ".join([*unknown, *adapter.whole][:5])
        raise UserError(
            f"{names}: {'no module' if unknown else 'trained in full, so no adapter'} of the "
            "network that these keys are for; write them with --keys own"
        )
    for name, factors in adapter.layers.items():
        of_index: dict[int | None, list[Module]] = {}
        for module in parts[name]:
            of_index.setdefault(module.index, []).append(module)
        for index, together in of_index.items():
            found |= _divided(factors, index, together)
    return found


def _divided(factors: Factors, index: int | None, parts: list[Module]) -> dict[str, Pair]:
    """The pairs of the modules of one layer; what no row of a part takes part in is left out."""
    A, B = (array if index is None else array[index] for array in factors)
    if A.ndim == 4:
        A = A.transpose(3, 2, 0, 1)
    used = {module.path: np.flatnonzero((B[module.rows] != 0).any(0)) for module in parts}
    some = any(len(columns) for columns in used.values())
    found = {}
    for module in parts:
        columns = used[module.path] if some else np.arange(B.shape[1])
        if len(columns):
            found[module.path] = Pair(A[columns], B[module.rows][:, columns], factors.scale)
    return found


def _layer(given: list[Module], pairs: Mapping[str, Pair], shape: tuple[int, ...]) -> Factors:
    """The factors of a layer of ours, of one or of a stack of them; scales that are not the same in
    all of it go into `B`."""
    scales = {pairs[module.path].scale for module in given}
    common = scales.pop() if len(scales) == 1 else None
    convolves, stacked = given[0].convolves, given[0].index is not None
    out = shape[-1] if convolves else shape[-2]
    of_index: dict[int | None, list[Module]] = {}
    for module in given:
        of_index.setdefault(module.index, []).append(module)
    made = {
        index: _joined(parts, pairs, out, folds=common is None) for index, parts in of_index.items()
    }
    rank = max(B.shape[1] for _, B in made.values())
    depth = shape[0] if stacked else 1
    inner = made[given[0].index][0].shape[1:]
    A, B = np.zeros((depth, rank, *inner), np.float32), np.zeros((depth, out, rank), np.float32)
    for index, (a, b) in made.items():
        A[index or 0, : len(a)], B[index or 0, :, : b.shape[1]] = a, b
    if convolves:
        A = A.transpose(0, 3, 4, 2, 1)
    scale = 1.0 if common is None else common
    return Factors(A if stacked else A[0], B if stacked else B[0], scale)


def _joined(
    parts: list[Module], pairs: Mapping[str, Pair], out: int, *, folds: bool
) -> tuple[np.ndarray, np.ndarray]:
    """`A` and `B` of the modules of one layer together; where it `folds`, scales are in `B`."""
    of = [pairs[module.path] for module in parts]
    shared = all(one.A.shape == of[0].A.shape and np.array_equal(one.A, of[0].A) for one in of)
    rank = of[0].rank if shared else sum(one.rank for one in of)
    B, start = np.zeros((out, rank), np.float32), 0
    for module, pair in zip(parts, of):
        factor = np.float32(pair.scale if folds else 1.0)
        B[module.rows, start : start + pair.rank] = factor * pair.B
        start += 0 if shared else pair.rank
    A = of[0].A if shared else np.concatenate([one.A for one in of])
    return A, B


def _check(pair: Pair, module: Module, shape: tuple[int, ...]) -> None:
    """Raises `UserError` unless a pair is of its module."""
    inside = (shape[-2], *shape[-4:-2]) if module.convolves else (shape[-1],)
    A, B = (pair.rank, *inside), (len(module.rows), pair.rank)
    if (pair.A.shape, pair.B.shape) != (A, B):
        raise UserError(
            f"{module.path} has matrices of {pair.A.shape} and {pair.B.shape}, and this network's "
            f"layer asks for {A} and {B}: it is for a network of another size"
        )
