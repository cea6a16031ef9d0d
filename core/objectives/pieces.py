"""Rows of a batch in equal pieces."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from core.errors import UserError
from core.objectives.objective import GroupTerm, RowKind
from core.objectives.row import Row


def check_kind(kind: RowKind, rows: int, pieces: int) -> None:
    """Raises `UserError` where the pieces do not divide the rows of this kind, or its groups."""
    group = _group(kind)
    if rows % (pieces * group):
        raise UserError(
            f"--accumulate {pieces} does not divide the {rows} rows of kind {kind.name!r}"
            f"{f' in groups of {group}' if group > 1 else ''}: "
            "choose another --batch or --accumulate"
        )


def split_rows(kind: RowKind, rows: Row, pieces: int) -> Row:
    """The rows of one kind with a leading axis of pieces.

    Piece `i` takes every `pieces`-th row (or group) from the `i`-th on: of each device's rows as
    many as of any other's, and of the rows without a label, which come first, its share.
    """

    def split(leaf: Array) -> Array:
        leaf = leaf.reshape(-1, pieces, _group(kind), *leaf.shape[1:])
        return jnp.moveaxis(leaf, 1, 0).reshape(pieces, -1, *leaf.shape[3:])

    return jax.tree.map(split, rows)


def _group(kind: RowKind) -> int:
    return kind.term.size if isinstance(kind.term, GroupTerm) else 1
