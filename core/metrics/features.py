"""Named features: the space in which two sets of examples are compared."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from core.errors import UserError
from core.nets.perception import Perception
from core.registry import Registry


@runtime_checkable
class FeatureExtractor(Protocol):
    """A function from examples `(n, ...)` to features `(n, dim)`, with a name to report it by.

    Distances in different features cannot be compared, so the name belongs to every number. One
    may have an attribute `origin: FeatureOrigin` and a method `logits(examples) -> (n, classes)`,
    those of the network's own classifier.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, examples: Shaped[np.ndarray, "n ..."]) -> Float[np.ndarray, "n dim"]: ...


Family = Literal["pixels", "pooled", "run", "efficientnet-lite0", "inception-2015", "dinov2"]
"""The kinds of features; numbers of two families are never comparable."""


@dataclass(frozen=True)
class FeatureOrigin:
    """What a number depends on beside the name of its features: an attribute `origin` of an
    extractor that has it.

    **Fields:** `weights_sha256` of the file of weights, empty where there is none; `resize`, the
    rule by which pictures are brought to the network's size; `rounding`, where values become
    bytes; `licence` of the weights; `family`.
    """

    weights_sha256: str
    resize: str
    rounding: str
    family: Family
    licence: str = ""


MOST_FEATURES = 4096
"""Features of which a covariance is taken at most: its roots take minutes at 4,096, and with the
third power of the number; its memory grows with the second."""
PIECE = 1024
"""Examples whose features are taken at once."""
_CHUNK = 2**24
"""Numbers of examples that are pooled at once."""


@dataclass(frozen=True)
class Pixels:
    """The numbers themselves: examples flattened, in float64."""

    name: str = "pixels"

    def __call__(self, examples: Shaped[np.ndarray, "n ..."]) -> Float[np.ndarray, "n dim"]:
        return np.asarray(examples, np.float64).reshape(len(examples), -1)


@dataclass(frozen=True)
class Pooled:
    """Images averaged over a grid of at most `side` by `side` cells, series over at most `side^2`
    pieces of their length; other examples flattened.

    Small enough that a few thousand samples have a covariance of full rank, and blind to fine
    texture. Cells are as equal as the size allows.
    """

    side: int = 8
    name: str = "pooled"

    def __call__(self, examples: Shaped[np.ndarray, "n ..."]) -> Float[np.ndarray, "n dim"]:
        if examples.ndim not in (3, 4):
            return np.asarray(examples, np.float64).reshape(len(examples), -1)
        each = max(_CHUNK // max(int(np.prod(examples.shape[1:])), 1), 1)
        parts = [self._means(examples[i : i + each]) for i in range(0, len(examples), each)]
        return np.concatenate(parts)

    def _means(self, images: Shaped[np.ndarray, "n ..."]) -> Float[np.ndarray, "n dim"]:
        values = np.asarray(images, np.float64)
        axes = range(1, values.ndim - 1)
        most = self.side ** (2 // len(axes))
        for axis in axes:
            cells = np.array_split(np.arange(values.shape[axis]), min(most, values.shape[axis]))
            values = np.stack([values.take(cell, axis).mean(axis) for cell in cells], axis)
        return values.reshape(len(values), -1)


@dataclass(frozen=True)
class Perceived:
    """The vector of a trained perception; `name` says where it comes from."""

    name: str
    perception: Perception
    batch: int = 256

    def __call__(self, examples: Shaped[np.ndarray, "n ..."]) -> Float[np.ndarray, "n dim"]:
        values = jnp.asarray(examples, jnp.float32)
        starts = range(0, len(values), self.batch)
        parts = [_vectors(self.perception, values[i : i + self.batch]) for i in starts]
        return np.asarray(np.concatenate(parts), np.float64)


@eqx.filter_jit
def _vectors(perception: Perception, examples: Array) -> Array:
    return jax.vmap(perception.vector)(examples)


FEATURES: Registry[FeatureExtractor] = Registry(
    "feature set", {"pixels": Pixels(), "pooled": Pooled()}
)


def register_features(extractor: FeatureExtractor) -> FeatureExtractor:
    """Adds an extractor to `FEATURES` under its name; `ValueError` if the name is taken."""
    return FEATURES.add(extractor.name, extractor)


def get_features(features: str | FeatureExtractor) -> FeatureExtractor:
    """Looks a name up in `FEATURES`; an extractor is returned as it is.

    **Raises:** `UserError` for a name that is not there.
    """
    return FEATURES.find(features) if isinstance(features, str) else features


MOST_PIXELS = 1024
"""Numbers of an example up to which it is compared as it is, where no features are named: beyond, a
distance on pixels falls when pictures are blurred."""


def default_features(shape: tuple[int, ...], network: str | None = None) -> str:
    """The features where none are named: pixels up to 1,024 numbers an example; beyond, those of
    `network`, where there is one and examples are gray or colour pictures; else pooled ones, and
    pixels of what is no picture, up to `MOST_FEATURES`."""
    picture = len(shape) == 3
    if math.prod(shape) <= (MOST_PIXELS if picture else MOST_FEATURES):
        return "pixels"
    return network if network is not None and picture and shape[-1] in (1, 3) else "pooled"


def check_size(features: str | FeatureExtractor, shape: tuple[int, ...]) -> None:
    """Raises `UserError` for pixels of examples that have more of them than `MOST_FEATURES`."""
    size = math.prod(shape)
    if isinstance(get_features(features), Pixels) and size > MOST_FEATURES:
        raise UserError(
            f"--features pixels of examples with {size:,} numbers takes a matrix of "
            f"{size**2 * 8 / 2**30:,.1f} GiB; give --features pooled, or a run of apps.features"
        )


def extract(
    features: str | FeatureExtractor, examples: Shaped[np.ndarray, "n ..."]
) -> Float[np.ndarray, "n dim"]:
    """Features of examples in float64.

    **Raises:** `ValueError` for examples or features that are not finite (a sampler diverged), or
    for features that are not one row an example.
    """
    extractor = get_features(features)
    found = np.asarray(extractor(np.asarray(examples)), np.float64)
    if found.ndim != 2 or len(found) != len(examples):
        raise ValueError(
            f"features {extractor.name!r} have shape {found.shape} for {len(examples)} examples: "
            "expected one row an example"
        )
    bad = int(np.sum(~np.isfinite(found).all(axis=1)))
    if bad:
        raise ValueError(f"{bad} of {len(found)} examples have features that are not finite")
    return found
