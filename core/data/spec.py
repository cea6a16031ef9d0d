"""The description of a data set without its examples."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Array, Float, Float32, Shaped

from core.data.codec import Codec
from core.data.display import curves, in_bytes, panels
from core.data.scale import Scale
from core.data.vocabulary import texts
from core.errors import NotFinite

Kind = Literal["points", "image", "series", "tokens"]
RANKS = {"points": 1, "series": 2, "image": 3, "tokens": 2}
"""Axes of an example, by kind."""
KINDS: dict[int, Kind] = {1: "points", 2: "series", 3: "image"}
"""The kind of examples of so many axes."""


@dataclass(frozen=True)
class DataSpec:
    """The description of a data set: enough to build a network for it and to show its samples.

    **Fields:** as those of `core.data.dataset.Dataset` of the same names; `count` is the number of
    examples and `class_counts` that of each class, 0 and empty where they are not known;
    `fingerprint` is that of `core.data.record`, empty where it was not taken.

    Of tokens `shape` is (length, symbols), and `vocabulary` has what each symbol adds to a text;
    `end` is the symbol that fills an example up, where there is one, and `utf8` says that the
    symbols are bytes.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    levels: int | None = None
    scale: Scale = Scale()
    codec: Codec = Codec()
    count: int = 0
    class_counts: tuple[int, ...] = ()
    fingerprint: str = ""
    space: str = ""
    vocabulary: tuple[str, ...] = ()
    end: str = ""
    utf8: bool = False

    @property
    def picture_shape(self) -> tuple[int, ...]:
        """The shape of what examples stand for: of latents that of a picture."""
        return self.codec.shape if self.codec else self.shape

    def pictures(self, x: Float[Array | np.ndarray, "..."]) -> Float32[np.ndarray, "..."]:
        """Network values as the values of pictures in [-1, 1], where they are latents; in NumPy."""
        values = np.asarray(x, np.float32)
        return self.codec.pictures(self.restore(values)) if self.codec else values

    def restore(self, x: Float[Array | np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Network values in the units of the data, in NumPy: `scale` is undone. Images kept as
        bytes stay in [-1, 1]; of tokens the codes of the likeliest symbols."""
        if self.kind == "tokens":
            return self.codes(x)
        return self.scale.stored(np.asarray(x, np.float32))

    def codes(self, x: Float[Array | np.ndarray, "*n length symbols"]) -> Shaped[np.ndarray, "..."]:
        """The codes of the likeliest symbols, int32."""
        return np.asarray(x).argmax(axis=-1).astype(np.int32)

    def texts(self, x: Float[Array | np.ndarray, "n length symbols"]) -> list[str]:
        """Network values of tokens as strings. Raises `NotFinite` for values that are not
        finite."""
        if not np.isfinite(np.asarray(x)).all():
            raise NotFinite("values that are not finite are no text; draw other samples")
        return texts(self.codes(x), self.vocabulary, self.end, self.utf8)

    def encode(self, x: Float[Array | np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Network values as they are displayed, in NumPy.

        Latents become the pictures that their codec makes of them. Images become bytes,
        `round(127.5 (x / span + 1))` clipped to 0..255 with the `span` of `scale`, 1 as a rule;
        those of other than one or three channels a gray panel for each
        (`core.data.display.panels`). Series become pictures of curves. Points are float32 in the
        units of the data, tokens codes. Raises `NotFinite` for values that are not finite.
        """
        values = np.asarray(x, np.float32)
        if not np.isfinite(values).all():
            raise NotFinite("values that are not finite cannot be shown; draw other samples")
        if self.kind in ("points", "tokens"):
            return self.restore(values)
        if self.kind == "series":
            return curves(values, self.scale.span)
        if self.codec:
            return panels(in_bytes(self.pictures(values)))
        shown = in_bytes(values, self.scale.span)
        return panels(shown) if shown.ndim >= 3 else shown
