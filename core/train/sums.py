"""A checksum for each array of a checkpoint, so that what is read is what was saved.

A sum is the dtype and 16 hexadecimal digits of BLAKE2b over the shape and the values.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_THREADS = 4


def sums_of(arrays: dict[str, Any]) -> dict[str, str]:
    """The sum of each array; of an array that is divided over several processes there is none."""
    whole = {name: held for name, one in arrays.items() if (held := _held(one)) is not None}
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing lets other threads run
        return dict(zip(whole, pool.map(sum_of, whole.values())))


def sum_of(values: np.ndarray) -> str:
    """The sum of one array."""
    found = hashlib.blake2b(str(values.shape).encode(), digest_size=8)
    found.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return f"{values.dtype} {found.hexdigest()}"


def sum_of_values(meta: dict[str, Any]) -> str:
    """The sum of nested plain values."""
    text = json.dumps(meta, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def wrong(arrays: dict[str, Any], sums: dict[str, str]) -> str | None:
    """The first array that does not have its sum, or None. An array that was read in a wider dtype
    is compared in that of its sum, one that was read in a narrower one cannot be."""
    for name, array in arrays.items():
        values, there = _held(array), sums.get(name)
        if values is None or there is None:
            continue
        try:
            dtype = jnp.dtype(str(there).partition(" ")[0])
        except TypeError:  # the sum itself is damaged
            return name
        if values.dtype != dtype:
            if not np.can_cast(dtype, values.dtype):
                continue
            values = values.astype(dtype)
        if sum_of(values) != there:
            return name
    return None


def not_finite(arrays: dict[str, Any]) -> str | None:
    """The first array with a number that is not finite, in the part that this process holds."""
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            continue
        for shard in array.addressable_shards:
            if not np.isfinite(np.asarray(shard.data)).all():
                return name
    return None


def _held(array: Any) -> np.ndarray | None:
    """The values of an array as this process holds them, those of keys as numbers; None where it
    holds a part of them only."""
    if not isinstance(array, jax.Array):
        return np.asarray(array)
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    if array.is_fully_addressable:
        return np.asarray(array)
    return np.asarray(array.addressable_data(0)) if array.is_fully_replicated else None
