"""From a batch of the data iterator to the examples of a step, on the device."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Key

from core.data.dataset import Dataset
from core.objectives.objective import Batch
from core.train.augment import augmentation

Gather = Callable[[Any, dict[str, Array], Key[Array, ""]], Batch]
"""`(store, raw batch, key of the step) -> Batch`."""
Couple = Callable[..., Batch]
"""`(batch, *, key) -> Batch`: chooses the ends at t = 1, see `core.objectives.coupling`."""
AUGMENT, COUPLE, DRAW = 0x6D697272, 0x636F7570, 0x64726177
"""What the step's key is folded with for augmentations, couplings and draws of latents: far from
what objectives fold in."""


def device_store(dataset: Dataset) -> Any:
    """The resident arrays of a data set, and those of its other end; None where there are none."""
    other = None if dataset.starts is None else _stored(dataset.starts)
    if not dataset.resident and other is None:
        return None
    parts = dataset.labels, dataset.noise, other
    own = _stored(dataset), *(None if part is None else jnp.asarray(part) for part in parts)
    return own if dataset.resident else (None, None, None, own[3])


def _stored(dataset: Dataset) -> Array | None:
    return jnp.asarray(dataset.examples) if dataset.resident else None


def drawn(key: Key[Array, ""]) -> Key[Array, ""]:
    """The key of the draws of latents in a step."""
    return jr.fold_in(key, DRAW)


def gathering(dataset: Dataset, couple: Couple | None = None) -> Gather:
    """`(store, raw batch, key) -> Batch`, from indices where the data are resident, else directly.

    The ends at t = 1 are those of `dataset.noise` or `dataset.starts`, if any, and chosen by
    `couple`, if any. What is drawn, by augmentation too, depends on the key of the step alone.
    """
    starts, augment = dataset.starts, augmentation(dataset)

    def gather(store: Any, raw: dict[str, Array], key: Key[Array, ""]) -> Batch:
        arrays: Any = store or (None,) * 4
        examples, labels, noise, other = arrays
        if dataset.resident:
            index = raw["index"]
            label, z = (None if part is None else part[index] for part in (labels, noise))
            batch = Batch(dataset.decode(examples[index], key=drawn(key)), label, z)
        else:
            batch = Batch(dataset.decode(raw["x"], key=drawn(key)), raw.get("label"))
        if augment is not None:
            batch = augment(batch, jr.fold_in(key, AUGMENT))
        if starts is not None:
            stored = other[raw["start"]] if starts.resident else raw["z"]
            z = starts.decode(stored, key=jr.fold_in(drawn(key), 1))
            batch = Batch(batch.x_0, batch.label, z)
        return batch if couple is None else couple(batch, key=jr.fold_in(key, COUPLE))

    return gather
