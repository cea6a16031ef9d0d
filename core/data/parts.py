"""Parts of a data set: to train on, to choose by, to measure on."""

from typing import Literal

import numpy as np
from jaxtyping import Int

from core.data.checks import one_of
from core.errors import require

Part = Literal["all", "train", "validation", "test"]
PARTS = ("all", "train", "validation", "test")


def part_of(n: int, part: str) -> Int[np.ndarray, " m"]:
    """The indices of a part of `n` examples in a random order that never changes: the first eight
    tenths to train on, a tenth for validation, the rest to test on. Raises `UserError` for a part
    without examples."""
    one_of(part, PARTS, "--data.part")
    if part == "all":
        return np.arange(n)
    order = np.random.default_rng(0).permutation(n)
    first, second = int(0.8 * n), int(0.9 * n)
    spans = {"train": (0, first), "validation": (first, second), "test": (second, n)}
    start, end = spans[part]
    require(end > start, f"--data.part {part} of {n} examples has none; leave it out")
    return order[start:end]
