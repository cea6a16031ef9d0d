"""Changes of a batch that are drawn anew in each step, by a key of the step's own."""

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

    Examples that are paired with noise stay as they are: the pair is one of the teacher's.
    """
    return mirrored if dataset.flip and dataset.noise is None else None


def mirrored(batch: Batch, key: Key[Array, ""]) -> Batch:
    """The batch with each image mirrored, left to right, with probability 1/2."""
    return eqx.tree_at(lambda batch: batch.x_0, batch, mirror_some(batch.x_0, key))


def mirror_some(
    x: Float[Array, "n height width channels"], key: Key[Array, ""]
) -> Float[Array, "n height width channels"]:
    """Each image, or its mirror image with probability 1/2."""
    turned = jr.bernoulli(key, shape=(len(x), 1, 1, 1))
    return jnp.where(turned, x[:, :, ::-1], x)
