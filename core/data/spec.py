"""The description of a data set without its examples."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Array, Float, Shaped

from core.errors import NotFinite


@dataclass(frozen=True)
class DataSpec:
    """The description of a data set: enough to build a network for it and to show its samples.

    **Fields:** as those of `core.data.dataset.Dataset` of the same names; `count` is the number of
    examples and `class_counts` that of each class, 0 and empty where they are not known;
    `fingerprint` is that of `core.data.record`, empty where it was not taken.
    """

    name: str
    kind: Literal["points", "image"]
    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    levels: int | None = None
    count: int = 0
    class_counts: tuple[int, ...] = ()
    fingerprint: str = ""

    def encode(self, x: Float[Array | np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Network values to values that can be displayed, in NumPy.

        Images become bytes, `round(127.5 (x + 1))` clipped to 0..255, whatever `levels` is;
        points stay float32. Raises `NotFinite` for values that are not finite.
        """
        values = np.asarray(x, np.float32)
        if not np.isfinite(values).all():
            raise NotFinite("values that are not finite cannot be shown; draw other samples")
        if self.kind == "points":
            return values
        return np.clip(np.rint(127.5 * (values + 1)), 0, 255).astype(np.uint8)
