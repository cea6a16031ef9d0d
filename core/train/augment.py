"""Changes of a batch that are drawn afresh in each step, by a key of the step's own."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.data.dataset import Dataset
from core.objectives.objective import Batch

Augmentation = Callable[[Batch, Key[Array, ""]], Batch]


def augmentation(dataset: Dataset) -> Augmentation | None:
    """What training does to the examples of a batch; None where it takes them as they are.

    Examples that are paired with noise stay as they are: the pair is one of the teacher's. Pairs
    with examples of another data set are mirrored together.
    """
    if not dataset.flip or dataset.noise is not None:
        return None
    return pairs_mirrored if dataset.paired else mirrored


def mirrored(batch: Batch, key: Key[Array, ""]) -> Batch:
    """The batch with each image mirrored, left to right, with probability 1/2."""
    return eqx.tree_at(lambda batch: batch.x_0, batch, mirror_some(batch.x_0, key))


def pairs_mirrored(batch: Batch, key: Key[Array, ""]) -> Batch:
    """The batch with both images of a pair mirrored, or neither."""
    assert batch.z is not None
    both = mirror_some(batch.x_0, key), mirror_some(batch.z, key)
    return eqx.tree_at(lambda batch: (batch.x_0, batch.z), batch, both)


def mirror_some(
    x: Float[Array, "n height width channels"], key: Key[Array, ""]
) -> Float[Array, "n height width channels"]:
    """Each image, or its mirror image with probability 1/2: the same ones of the same key."""
    turned = jr.bernoulli(key, shape=(len(x), 1, 1, 1))
    return jnp.where(turned, x[:, :, ::-1], x)
