"""Gradients of a batch in pieces, one after the other: less memory, the same step.

The rows of the whole batch are drawn first, with their times and noise, and then divided. A loss
that is a mean over rows, or over groups of rows, is the mean of the losses of equal pieces, and so
is its gradient; the numbers of a step differ by rounding alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from core.errors import UserError
from core.objectives.objective import GroupTerm, Objective, RowKind
from core.objectives.row import Row
from core.objectives.rows import RowObjective
from core.times.distributions import split_counts


def check(objective: Objective, batch: int, pieces: int) -> None:
    """Raises `UserError` where steps of `pieces` would not be those of the whole batch: objectives
    that compare all rows, kinds whose rows the pieces do not divide."""
    if pieces == 1:
        return
    if not isinstance(objective, RowObjective):
        raise UserError(
            "--accumulate needs a loss that is a mean over rows, and this method compares the rows "
            "of the whole batch: leave it out, and lower --batch or raise --mesh.data"
        )
    counts = split_counts(batch, tuple(kind.share for kind in objective.kinds))
    for kind, n in zip(objective.kinds, counts):
        if n % (pieces * _group(kind)):
            raise UserError(
                f"--accumulate {pieces} does not divide the {n} rows of kind {kind.name!r}"
                f"{f' in groups of {_group(kind)}' if _group(kind) > 1 else ''}: "
                "choose another --batch or --accumulate"
            )
        dropped, of_piece = objective.num_dropped(n), objective.num_dropped(n // pieces)
        if objective.guide is not None and dropped != pieces * of_piece:
            raise UserError(
                f"--accumulate {pieces} does not divide the {dropped} rows without a label: "
                "choose another --batch or --plugin.label-drop"
            )


def divided(objective: RowObjective, drawn: dict[str, Row], pieces: int) -> dict[str, Row]:
    """The rows of `RowObjective.draw` with a leading axis of pieces.

    Piece `i` takes every `pieces`-th row (or group) from the `i`-th on: of each device's rows as
    many as of any other's, and of the rows without a label, which come first, its share.
    """

    def split(leaf: Array, group: int) -> Array:
        leaf = leaf.reshape(-1, pieces, group, *leaf.shape[1:])
        return jnp.moveaxis(leaf, 1, 0).reshape(pieces, -1, *leaf.shape[3:])

    groups = {kind.name: _group(kind) for kind in objective.kinds}
    return {
        name: jax.tree.map(lambda leaf: split(leaf, groups[name]), rows)
        for name, rows in drawn.items()
    }


def mean_over(pieces: Any, gradient: Any, zero: Any) -> tuple[Any, Any]:
    """The mean of `gradient(piece) -> (grads, aux)` over the leading axis of `pieces`, by a scan
    that keeps one sum of gradients, shaped as `zero`."""

    def body(total: Any, piece: Any) -> tuple[Any, Any]:
        grads, aux = gradient(piece)
        return jax.tree.map(jnp.add, total, grads), aux

    total, aux = jax.lax.scan(body, jax.tree.map(jnp.zeros_like, zero), pieces)
    count = jax.tree.leaves(pieces)[0].shape[0]
    return (
        jax.tree.map(lambda leaf: leaf / count, total),
        jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), aux),
    )


def _group(kind: RowKind) -> int:
    return kind.term.size if isinstance(kind.term, GroupTerm) else 1
