"""A set of examples as features see it: rows, their Gaussian, labels, logits."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from core.metrics.frechet import Statistics, statistics

Index = Int[np.ndarray, " some"]


@dataclass(frozen=True, eq=False)
class Gathered:
    """Rows that are read when they are asked for, by an array of indices or a slice.

    **Fields:** `count` rows of `dim` numbers; `read(index)` gives `(len(index), dim)`.
    """

    count: int
    dim: int
    read: Callable[[Index], Float[np.ndarray, "some dim"]]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: Index | slice) -> Float[np.ndarray, "some dim"]:
        if isinstance(index, slice):
            index = np.arange(self.count)[index]
        return np.asarray(self.read(index), np.float64)


Rows = Float[np.ndarray, "_ _"] | Gathered


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """A set of examples in some features.

    **Fields:**

    - `rows`: the features, one example a row: an array, or `Gathered` where they are too many for
      memory. None where only statistics are known.
    - `labels`: the class of each row, or None.
    - `given`: mean and covariance of the whole set, where they were taken otherwise than from
      `rows`: streamed, or read from a file whose rows are a part of the set.
    - `logits`: those of a classifier for each row, or None.
    """

    rows: Rows | None
    labels: Int[np.ndarray, " rows"] | None = None
    given: Statistics | None = None
    logits: Rows | None = None

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and covariance of the set."""
        if self.given is not None:
            return self.given
        assert self.rows is not None
        return statistics(self.rows[:])

    @property
    def n(self) -> int | None:
        """The size of the set; None where a file does not say it."""
        return self.statistics.n if self.rows is None or self.given is not None else len(self.rows)

    @property
    def dim(self) -> int:
        """The number of features."""
        if self.rows is None:
            return self.statistics.mean.size
        return self.rows.dim if isinstance(self.rows, Gathered) else self.rows.shape[1]

    def part(self, index: Index) -> "FeatureSet":
        """Some of the rows, with their labels and logits, as a set of their own."""
        assert self.rows is not None
        return FeatureSet(
            self.rows[index],
            None if self.labels is None else self.labels[index],
            logits=None if self.logits is None else self.logits[index],
        )


def in_pieces(count: int, each: int) -> Iterator[Index]:
    """The indices `0` to `count - 1`, at most `each` at a time."""
    for start in range(0, count, each):
        yield np.arange(start, min(start + each, count))
