"""Paired map error: one flow map against another, from the same starting points."""

import numpy as np
from jaxtyping import Float


def paired_error(
    found: Float[np.ndarray, " n *shape"], exact: Float[np.ndarray, " n *shape"]
) -> float:
    """Mean distance `E|F(x, s, t) - F_exact(x, s, t)|` between ends with the same start `x`.

    A flow map is deterministic, so this detects errors that no distance of distributions does, such
    as two modes swapped. Both arrays hold one end a row, in the same order.

    **Raises:** `ValueError` if the shapes differ or there are no rows.
    """
    if found.shape != exact.shape or len(found) == 0:
        raise ValueError(
            f"expected two non-empty arrays of one shape, got {found.shape} and {exact.shape}"
        )
    difference = np.asarray(found, np.float64) - np.asarray(exact, np.float64)
    return float(np.linalg.norm(difference.reshape(len(found), -1), axis=1).mean())
