"""Statistics of features that come in pieces: sums that can be added up, in bounded memory."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from core.metrics.frechet import Statistics


@dataclass(frozen=True, eq=False)
class Moments:
    """The sums `sum (x - c)` and `sum (x - c)(x - c)^T` over `n` rows, in float64.

    `shift` is the fixed c. Raw second moments lose as many digits as the mean is larger than the
    deviation; with a c near the mean (that of the reference, or of the first piece) they lose none.
    Sums of pieces are the sum of the whole, so pieces may come from several processes.
    """

    shift: Float[np.ndarray, " dim"]
    n: int
    total: Float[np.ndarray, " dim"]
    outer: Float[np.ndarray, "dim dim"]

    def more(self, features: Float[np.ndarray, "rows dim"]) -> "Moments":
        """With further rows."""
        x = np.asarray(features, np.float64) - self.shift
        return Moments(
            self.shift, self.n + len(x), self.total + x.sum(axis=0), self.outer + x.T @ x
        )

    def merged(self, other: "Moments") -> "Moments":
        """With the rows of another, whose shift may be another one: it is moved exactly."""
        other = other.around(self.shift)
        return Moments(
            self.shift, self.n + other.n, self.total + other.total, self.outer + other.outer
        )

    def around(self, shift: Float[np.ndarray, " dim"]) -> "Moments":
        """The same rows about another shift."""
        if np.array_equal(shift, self.shift):
            return self
        by = self.shift - np.asarray(shift, np.float64)
        cross = np.outer(self.total, by)
        outer = self.outer + cross + cross.T + self.n * np.outer(by, by)
        return Moments(self.shift - by, self.n, self.total + self.n * by, outer)

    def statistics(self) -> Statistics:
        """Mean and covariance, with the divisor `n - 1`.

        **Raises:** `ValueError` for fewer than 2 rows.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {self.n}")
        mean = self.total / self.n
        outer = (self.outer + self.outer.T) / 2
        cov = (outer - self.n * np.outer(mean, mean)) / (self.n - 1)
        return Statistics(self.shift + mean, cov, self.n)


def no_moments(shift: Float[np.ndarray, " dim"]) -> Moments:
    """Those of no rows."""
    shift = np.asarray(shift, np.float64)
    return Moments(shift, 0, np.zeros_like(shift), np.zeros((shift.size, shift.size)))


def streamed(pieces: Iterable[Float[np.ndarray, "_ dim"]]) -> Statistics:
    """Statistics of all rows of these pieces; the mean of the first is the shift.

    **Raises:** `ValueError` for fewer than 2 rows in all.
    """
    moments: Moments | None = None
    for piece in pieces:
        if moments is None:
            moments = no_moments(np.asarray(piece, np.float64).mean(axis=0))
        moments = moments.more(piece)
    if moments is None:
        raise ValueError("a covariance needs at least 2 samples, got 0")
    return moments.statistics()
