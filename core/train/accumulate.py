"""Gradients of a batch in pieces, one after the other: less memory, the same step.

The rows of the whole batch are drawn first, with their times and noise, and then divided. A loss
that is a mean over rows, or over groups of rows, is the mean of the losses of equal pieces, and so
is its gradient; the numbers of a step differ by rounding alone.
"""

from typing import Any

import jax
import jax.numpy as jnp

from core.errors import UserError
from core.objectives.objective import DivisibleObjective, Objective


def check(objective: Objective, batch: int, pieces: int) -> None:
    """Raises `UserError` where steps of `pieces` would not be those of the whole batch: objectives
    that compare all rows, kinds whose rows the pieces do not divide."""
    if pieces == 1:
        return
    if not isinstance(objective, DivisibleObjective):
        raise UserError(
            "--accumulate needs a loss that is a mean over rows, and this method compares the rows "
            "of the whole batch: leave it out, and lower --batch or raise --mesh.data"
        )
    objective.check(batch, pieces)


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
