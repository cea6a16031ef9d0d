"""Endless shuffled batches through Grain, which can stop and go on at any batch."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from core.data.checks import at_least
from core.data.dataset import Dataset
from core.errors import UserError

_NUM_BATCHES = 2**48
_READ_THREADS = 8
_PREFETCHED_BATCHES = 8
_OTHER_SEED = 2**32
"""Added to the seed for the order of the other end, so that it says nothing about the first."""

RawBatch = dict[str, Shaped[np.ndarray, "batch ..."]]


@functools.lru_cache(maxsize=4)
def epoch_order(size: int, seed: int, epoch: int) -> Int32[np.ndarray, " size"]:
    """The order in which epoch `epoch` visits `size` examples, another one each epoch."""
    order = np.random.default_rng((seed, epoch)).permutation(size).astype(np.int32)
    order.flags.writeable = False
    return order


@dataclass(frozen=True)
class ShuffledIndices:
    """The indices of batch number `k`, for any `k`, without a state.

    The orders of all epochs, one behind the other, make an endless stream, cut into pieces of
    `batch_size`, which the shards take in turn. So every batch is full, an epoch's end may lie
    inside one, no index is left out, and within an epoch the shards are disjoint. The batches
    number `k` of all shards, one behind the other, are batch number `k` of one shard with a batch
    `count` times as large.
    """

    size: int
    batch_size: int
    seed: int
    shard_index: int
    shard_count: int

    def __call__(self, number: int) -> Int32[np.ndarray, " batch_size"]:
        """The indices of batch `number >= 0`, each in `[0, size)`."""
        start = (number * self.shard_count + self.shard_index) * self.batch_size
        drawn = start + np.arange(self.batch_size, dtype=np.int64)
        epoch, place = np.divmod(drawn, self.size)
        index = np.empty(self.batch_size, np.int32)
        for e in range(int(epoch[0]), int(epoch[-1]) + 1):
            here = epoch == e
            index[here] = epoch_order(self.size, self.seed, e)[place[here]]
        return index


@dataclass(frozen=True)
class _Rows:
    """Batch number `k`: the indices of resident examples, the stored values and labels of others;
    and the same of the other end, where that is a data set, as `start` and `z`."""

    dataset: Dataset
    draw: ShuffledIndices
    draw_start: ShuffledIndices

    def __call__(self, number: int) -> RawBatch:
        dataset, index = self.dataset, self.draw(number)
        batch: RawBatch = {}
        if dataset.resident:
            batch["index"] = index
        else:
            batch["x"] = dataset.take(index)
            if dataset.labels is not None:
                batch["label"] = dataset.labels[index]
        starts = dataset.starts
        if starts is None:
            return batch
        start = index if dataset.paired else self.draw_start(number)
        return batch | ({"start": start} if starts.resident else {"z": starts.take(start)})


class Batches(Iterator[RawBatch]):
    """An endless iterator over batches whose state can be kept and put back."""

    def __init__(self, iterator: Any) -> None:
        """Wraps a Grain `DatasetIterator`."""
        self._iterator = iterator

    def __next__(self) -> RawBatch:
        """The next batch."""
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """The position of the iterator (the batch that is due next), as a dict for JSON."""
        return self._iterator.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a state from `get_state`, of this iterator or of one made in the same way."""
        self._iterator.set_state(state)

    def close(self) -> None:
        """Stops the threads that read ahead; the iterator is of no use afterwards."""
        self._iterator.close()


def batches(
    dataset: Dataset, batch_size: int, seed: int, shard_index: int = 0, shard_count: int = 1
) -> Batches:
    """Shuffled batches of a data set, without end, each epoch in an order of its own.

    **Arguments:**

    - `batch_size`: examples in a batch of this shard. Data sets smaller than it repeat inside a
      batch.
    - `seed`: fixes all orders, together with the size of the data set; not negative.
    - `shard_index`, `shard_count`: this process and the number of processes. Within an epoch no
      two shards see the same example, and together they see all.

    **Returns:**

    An iterator of `{"index": int32 (batch,)}` if the data are resident: the training step gathers
    the examples on the device. Otherwise of `{"x": stored values (batch, *shape)}`, and
    `"label": int32 (batch,)` if there are labels, read ahead on threads. Where the other end is a
    data set, `"start"` and `"z"` say the same of it; its order has nothing to do with the first.

    Raises `UserError` for an empty data set, a batch below 1, a negative seed, or without Grain.
    """
    try:
        import grain
    except ImportError:
        raise UserError("Grain is not installed; run: pip install grain") from None
    at_least(batch_size, 1, "batch size")
    at_least(seed, 0, "--seed")
    if not 0 <= shard_index < shard_count:
        raise ValueError(f"shard_index {shard_index} is not in [0, shard_count {shard_count})")
    if len(dataset) == 0:
        raise UserError(f"the data set {dataset.name} has no examples; give it at least one")
    shard, starts = (shard_index, shard_count), dataset.starts
    if starts is not None and len(starts) == 0:
        raise UserError(f"the data set {starts.name} has no examples; give it at least one")
    draw = ShuffledIndices(len(dataset), batch_size, seed, *shard)
    other = len(dataset if starts is None else starts)
    rows = _Rows(dataset, draw, ShuffledIndices(other, batch_size, seed + _OTHER_SEED, *shard))
    resident = dataset.resident and (starts is None or starts.resident)
    ahead = (0, 0) if resident else (_READ_THREADS, _PREFETCHED_BATCHES)
    reading = grain.ReadOptions(num_threads=ahead[0], prefetch_buffer_size=ahead[1])
    stream = grain.MapDataset.range(_NUM_BATCHES).map(rows)
    return Batches(iter(stream.to_iter_dataset(reading)))
