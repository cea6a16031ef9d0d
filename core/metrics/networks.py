"""Features of trained networks, for metrics: bytes in, in batches that are compiled once."""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from core.flow.rules import full_products
from core.metrics.features import FeatureOrigin
from core.nets.perceptions import Known, Pretrained
from core.nets.perceptions.inception import Inception2015

Examples = Shaped[np.ndarray, "n height width channels"]
Compute = Callable[[Examples], Float[np.ndarray, "n dim"]]
BATCH = 32


@dataclass(frozen=True)
class NetworkFeatures:
    """The vectors of a trained network, of pictures as bytes or as network values, which become
    bytes: `floor(127.5 x + 128)`, clipped.

    **Fields:** `name` for reports; `origin`; `logits` of the network's own classes, from pictures,
    and `classify`, the same from the vectors, or None where it has no classifier; `spatial`, the
    numbers of sFID, of Inception alone.
    """

    name: str
    network: Pretrained
    origin: FeatureOrigin
    logits: Compute | None = None
    classify: Compute | None = None
    spatial: Compute | None = None

    def __call__(self, examples: Examples) -> Float[np.ndarray, "n dim"]:
        return in_batches(lambda part: _vectors(self.network, part), examples)


def network_features(known: Known) -> NetworkFeatures:
    """The features of an opened network."""
    kind, network = known.kind, known.network
    origin = FeatureOrigin(known.sha256, kind.resize, kind.rounding, kind.family, kind.licence)
    logits = classify = spatial = None
    if _classes(network):
        logits = lambda x: in_batches(lambda part: _logits(network, part), x)  # noqa: E731
        classify = lambda x: in_batches(lambda part: _classified(network, part), x, 1024)  # noqa: E731
    if isinstance(network, Inception2015):
        spatial = lambda x: in_batches(lambda part: _spatial(network, part), x)  # noqa: E731
    return NetworkFeatures(known.title, network, origin, logits, classify, spatial)


def in_batches(
    compute: Callable[[Array], Array], examples: Shaped[np.ndarray, "n ..."], batch: int = BATCH
) -> Float[np.ndarray, "n dim"]:
    """`compute` of all examples, `batch` at a time; the last batch is filled up, so that one
    program serves all."""
    found = []
    for start in range(0, max(len(examples), 1), batch):
        part = examples[start : start + batch]
        filled = np.resize(part, (batch, *part.shape[1:])) if len(part) else part
        found.append(np.asarray(compute(jnp.asarray(levels(filled))))[: len(part)])
    return np.concatenate(found).astype(np.float64)


def levels(examples: Shaped[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
    """Pictures as grey levels 0 to 255 in float32: bytes as they are, network values rounded;
    what is no number stays that, so that it is found."""
    if examples.dtype == np.uint8 or examples.ndim != 4:
        return examples.astype(np.float32)
    return np.clip(np.floor(127.5 * examples.astype(np.float32) + 128), 0, 255)


def _classes(network: Pretrained) -> int:
    """How many classes the network knows; 0 where it has no classifier."""
    like = jax.ShapeDtypeStruct((64, 64, 3), jnp.float32)
    return jax.eval_shape(lambda x: network.logits(network.look(x).vector), like).size


@eqx.filter_jit
def _vectors(network: Pretrained, pictures: Array) -> Array:
    return jax.vmap(lambda one: network.look(one).vector)(pictures)


@eqx.filter_jit
def _logits(network: Pretrained, pictures: Array) -> Array:
    with full_products():
        return jax.vmap(lambda one: network.logits(network.look(one).vector))(pictures)


@eqx.filter_jit
def _classified(network: Pretrained, vectors: Array) -> Array:
    with full_products():
        return jax.vmap(network.logits)(vectors)


@eqx.filter_jit
def _spatial(network: Inception2015, pictures: Array) -> Array:
    with full_products():
        return jax.vmap(lambda one: network.spatial(network.input(one)))(pictures)
