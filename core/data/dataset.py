"""A data set in memory or on disk: stored values, labels, and the map to network values."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Key, Shaped

from core.data.chain import Chain
from core.data.codec import Codec
from core.data.scale import Scale
from core.data.spec import DataSpec, Kind


@runtime_checkable
class Source(Protocol):
    """Examples that are read one at a time, because they do not fit in memory."""

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def __getitem__(self, index: int) -> Shaped[np.ndarray, "*shape"]:
        """Reads the stored values of one example; called from several threads at once."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """`n` examples and, where there are any, their labels.

    Examples are kept as they are stored (bytes for images) and become network values by `decode`,
    inside the training step: a batch of bytes is a quarter of the traffic of a batch of floats.

    **Fields:**

    - `name`: the name in the registry.
    - `kind`: `"points"` for vectors `(dim,)`, `"series"` for `(length, channels)`, `"image"` for
      `(height, width, channels)`, `"tokens"` for `(length, symbols)`, whose examples are codes,
      `(n, length)`, and become one-hot.
    - `shape`: the shape of one example.
    - `num_classes`: labels are in `[0, num_classes)`; 0 if there are none.
    - `class_names`: one name a class, empty if there are no labels.
    - `examples`: the stored values, `(n, *shape)`. Empty, `(0, *shape)`, if `source` is given.
    - `labels`: `(n,)` int32, or `None`.
    - `levels`: the highest stored value of an image kept as bytes (255 as a rule); stored 0 becomes
      -1 and `levels` becomes 1. `None` if they are no such bytes.
    - `scale`: how other stored values become network values, channel by channel; by default they
      are such already.
    - `codec`: turns latents into pictures, where examples are latents; their stored values have
      twice the channels of `shape`, means and standard deviations (`core.data.latents`).
    - `noise`: the noise `(n, *shape)` paired with each example, where a teacher made the pairs, or
      `None`; of resident examples only.
    - `starts`: the data set at the other end of the path, in the place of noise, or `None`;
      `paired` says that its example number `i` goes with example number `i`, else each is drawn by
      itself.
    - `source`: reads the examples from disk, or `None` if `examples` holds them all.
    - `flip`: whether training mirrors each image, left to right, with probability 1/2.
    - `space`: the space of points that lie in no flat one, `"sphere"` (unit vectors), `"torus"`
      (angles in `[-pi, pi)`), `"so3"` (unit quaternions); empty for the others.
    - `cells`: the probabilities of equal cells of `[-pi, pi)^d`, on a torus where the density is
      known, or `None`.
    - `vocabulary`, `end`, `utf8`: of tokens, as in `DataSpec`; `held`, examples that are held out
      for metrics, or `None`; `chain`, the Markov chain that all were drawn from, or `None`.
    - `notes`: what a reader should tell the user: what was left out, how a shape was taken.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    examples: Shaped[np.ndarray, " stored *shape"]
    labels: Int32[np.ndarray, " n"] | None = None
    num_classes: int = 0
    class_names: tuple[str, ...] = ()
    levels: int | None = None
    scale: Scale = Scale()
    codec: Codec = Codec()
    noise: Float32[np.ndarray, " n *shape"] | None = None
    source: Source | None = None
    flip: bool = False
    starts: "Dataset | None" = None
    paired: bool = False
    space: str = ""
    cells: Float[np.ndarray, "..."] | None = None
    vocabulary: tuple[str, ...] = ()
    end: str = ""
    utf8: bool = False
    held: "Dataset | None" = None
    chain: Chain | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of examples, in memory or not."""
        return len(self.examples) if self.source is None else len(self.source)

    @property
    def resident(self) -> bool:
        """Whether all examples are in memory, so that a step may gather them by index."""
        return self.source is None

    def take(self, index: Int[np.ndarray, " batch"]) -> Shaped[np.ndarray, " batch *shape"]:
        """The stored values of some examples, from memory or from disk."""
        if self.source is None:
            return self.examples[index]
        return np.stack([self.source[int(i)] for i in index])

    def decode(
        self, x: Shaped[Array | np.ndarray, "..."], *, key: Key[Array, ""] | None = None
    ) -> Float32[Array, "..."]:
        """Stored values to network values, `2 x / levels - 1` or by `scale`; may be traced.

        Of tokens one-hot. Of latents those of the means, or with a `key` draws, `mean + std e` with
        `e ~ N(0, I)`."""
        if self.kind == "tokens":
            return jax.nn.one_hot(jnp.asarray(x), self.shape[-1], dtype=jnp.float32)
        values = jnp.asarray(x, jnp.float32)
        if self.codec:
            values, std = jnp.split(values, 2, axis=-1)
            if key is not None:
                values += std * jr.normal(key, values.shape)
        return self.scale.network(values) if self.levels is None else values / (self.levels / 2) - 1

    @property
    def spec(self) -> DataSpec:
        """The description of the examples: shape, kind, classes and their counts, levels."""
        return DataSpec(
            name=self.name,
            kind=self.kind,
            shape=self.shape,
            num_classes=self.num_classes,
            class_names=self.class_names,
            levels=self.levels,
            scale=self.scale,
            codec=self.codec,
            count=len(self),
            space=self.space,
            class_counts=self.class_counts,
            vocabulary=self.vocabulary,
            end=self.end,
            utf8=self.utf8,
        )

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The number of examples of each class; empty without labels."""
        if self.labels is None:
            return ()
        return tuple(np.bincount(self.labels, minlength=self.num_classes).tolist())

    def restore(self, x: Float[Array | np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Network values in the units of the data, in NumPy: `DataSpec.restore`."""
        return self.spec.restore(x)

    def encode(self, x: Float[Array | np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """Network values to what is displayed, in NumPy: `DataSpec.encode`."""
        return self.spec.encode(x)
