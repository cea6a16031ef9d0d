"""Where arrays live: one mesh with a data axis; parameters replicated, batches divided."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from core.errors import UserError
from core.train.config import MeshConfig


class Placement:
    """Puts the state on all devices of the mesh and divides batches over its data axis.

    Raises `UserError` for more devices than there are, and for a batch that they do not divide.
    """

    def __init__(self, config: MeshConfig, batch: int):
        there = jax.device_count()
        count = config.data or there
        if count > there:
            raise UserError(
                f"--mesh.data {count} asks for more devices than there are ({there}); "
                f"use --mesh.data {there} or less"
            )
        if batch % count:
            raise UserError(f"--batch {batch} is not divisible by --mesh.data {count}")
        devices = jax.devices()[:count]
        mesh = jax.make_mesh((count,), ("data",), (AxisType.Auto,), devices=devices)
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self._divided = NamedSharding(mesh, PartitionSpec(None, "data"))

    def replicate(self, tree: Any) -> Any:
        """The pytree's arrays on every device; other leaves as they are."""
        arrays, static = eqx.partition(tree, eqx.is_array)
        return eqx.combine(jax.device_put(arrays, self._everywhere), static)

    def batch(self, stacked: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """Stacked batches `(steps, batch, ...)`, divided along the second axis."""
        return jax.device_put(stacked, self._divided)
