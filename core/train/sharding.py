"""Where arrays live: one mesh with the axes `data` and `fsdp`.

A batch is divided over both axes. Every large array of the state (parameters, their average,
optimiser, carry) and of the objective (a teacher) is divided over `fsdp` and gathered where a step
needs it; all else is on every device. One device is a mesh of one: the program is the same.
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from core.errors import UserError, require
from core.train.config import MeshConfig


def spec(shape: tuple[int, ...], parts: int, smallest: int) -> PartitionSpec:
    """How an array is divided into `parts`: along its largest axis that they divide, the last of
    equals; arrays of fewer than `smallest` numbers, or without such an axis, stay whole.

    The axis of stacked layers is never the largest in a network that is wider than deep.
    """
    axes = [axis for axis, length in enumerate(shape) if length and length % parts == 0]
    if parts == 1 or not axes or math.prod(shape) < smallest:
        return PartitionSpec()
    best = max(axes, key=lambda axis: (shape[axis], axis))
    return PartitionSpec(*(None,) * best, "fsdp")


def mesh_shape(config: MeshConfig) -> tuple[int, int]:
    """Devices along `data` and `fsdp`. Raises `UserError` for more than there are."""
    there, fsdp = jax.device_count(), config.fsdp
    if fsdp > there:
        raise UserError(_too_many("fsdp", fsdp, there))
    if config.data * fsdp > there:
        raise UserError(_too_many("data", config.data, there // fsdp))
    if not config.data:
        require(there % fsdp == 0, f"--mesh.fsdp {fsdp} does not divide the {there} devices")
    data = config.data or there // fsdp
    if jax.process_count() > 1 and data * fsdp != there:
        raise UserError(
            f"several processes use all of their {there} devices: leave out --mesh.data {data}"
        )
    return data, fsdp


def _too_many(axis: str, asked: int, there: int) -> str:
    return (
        f"--mesh.{axis} {asked} asks for more devices than there are ({there}); "
        f"use --mesh.{axis} {there} or less"
    )


def describe_mesh(config: MeshConfig) -> str:
    """The mesh in words, `8 devices (data 4 x fsdp 2)`."""
    data, fsdp = mesh_shape(config)
    if data * fsdp == 1:
        return "1 device"
    return f"{data * fsdp} devices (data {data} x fsdp {fsdp})"


def make_mesh(config: MeshConfig) -> Mesh:
    """The mesh; neighbours along `fsdp`, which talk most, are neighbouring devices."""
    shape = mesh_shape(config)
    devices = jax.devices()[: math.prod(shape)]
    return jax.make_mesh(shape, ("data", "fsdp"), (AxisType.Auto,) * 2, devices=devices)


class Placement:
    """Puts state and batches on the mesh.

    Raises `UserError` for more devices than there are, and for a batch that they, or the
    `accumulate` pieces of a step, do not divide.
    """

    def __init__(self, config: MeshConfig, batch: int, accumulate: int = 1):
        data, fsdp = mesh_shape(config)
        flags = {"--mesh.data": data, "--mesh.fsdp": fsdp, "--accumulate": accumulate}
        if batch % math.prod(flags.values()):
            by = " x ".join(f"{flag} {n}" for flag, n in flags.items() if n > 1)
            raise UserError(f"--batch {batch} is not divisible by {by}")
        self.mesh = make_mesh(config)
        self._smallest = config.smallest
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.divided = NamedSharding(self.mesh, PartitionSpec(None, ("data", "fsdp")))
        self._gather = jax.jit(lambda tree: tree, out_shardings=self.everywhere)

    def shardings(self, tree: Any) -> Any:
        """The sharding of each array of a pytree, by `spec`."""
        parts = self.mesh.shape["fsdp"]
        return jax.tree.map(
            lambda leaf: NamedSharding(self.mesh, spec(leaf.shape, parts, self._smallest)), tree
        )

    def shard(self, tree: Any) -> Any:
        """The pytree's arrays divided over `fsdp`; other leaves as they are."""
        arrays, static = eqx.partition(tree, eqx.is_array)
        return eqx.combine(jax.tree.map(_put, arrays, self.shardings(arrays)), static)

    def replicate(self, tree: Any) -> Any:
        """The pytree's arrays on every device; other leaves as they are."""
        arrays, static = eqx.partition(tree, eqx.is_array)
        return eqx.combine(jax.tree.map(lambda a: _put(a, self.everywhere), arrays), static)

    def whole(self, tree: Any) -> Any:
        """Sharded arrays whole on this process's first device. Every process must call it."""
        if self.mesh.size == 1:
            return tree
        return jax.tree.map(lambda leaf: leaf.addressable_data(0), self._gather(tree))

    def batch(self, stacked: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        """This process's part of stacked batches, `(steps, batch / processes, ...)`, as the global
        arrays `(steps, batch, ...)`, divided along the second axis."""
        return {
            name: jax.make_array_from_process_local_data(self.divided, part)
            for name, part in stacked.items()
        }


def _put(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    """`jax.device_put`, also of an array that every process has for itself."""
    if jax.process_count() == 1 or not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jr.wrap_key_data(_put(jr.key_data(leaf), sharding), impl=jr.key_impl(leaf))
    values = np.asarray(leaf)
    return jax.make_array_from_callback(leaf.shape, sharding, lambda index: values[index])
