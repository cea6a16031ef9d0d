"""Batches: determinism, shuffling, resuming, sharding, and reading from disk."""

import json
import sys
import time

import numpy as np
import pytest

from core.data import Dataset, batches
from core.data.batches import epoch_order
from core.errors import UserError


def _resident(n: int) -> Dataset:
    x = np.arange(n, dtype=np.float32)[:, None]
    return Dataset(name="line", kind="points", shape=(1,), examples=x)


class _Squares:
    """A source on disk, in spirit: example `i` is the number `i`, read when asked for."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> np.ndarray:
        self.reads.append(index)
        return np.full((2, 2, 1), index, np.uint8)


def _lazy(n: int, labelled: bool = True) -> Dataset:
    return Dataset(
        name="squares",
        kind="image",
        shape=(2, 2, 1),
        examples=np.empty((0, 2, 2, 1), np.uint8),
        labels=10 * np.arange(n, dtype=np.int32) if labelled else None,
        num_classes=10 * n if labelled else 0,
        levels=255,
        source=_Squares(n),
    )


def _indices(dataset: Dataset, batch_size: int, seed: int, count: int, *shard: int) -> np.ndarray:
    stream = batches(dataset, batch_size, seed, *shard)
    return np.stack([next(stream)["index"] for _ in range(count)])


def test_equal_seeds_give_equal_batches():
    assert np.array_equal(_indices(_resident(50), 8, 3, 20), _indices(_resident(50), 8, 3, 20))


def test_different_seeds_give_different_batches():
    assert not np.array_equal(_indices(_resident(50), 8, 3, 5), _indices(_resident(50), 8, 4, 5))


def test_batches_are_full_int32_indices():
    index = _indices(_resident(50), 8, 0, 30)
    assert index.shape == (30, 8) and index.dtype == np.int32


@pytest.mark.parametrize("n, batch_size", [(48, 8), (50, 8), (7, 16), (1, 4)])
def test_every_epoch_visits_every_example_once(n, batch_size):
    stream = _indices(_resident(n), batch_size, 1, 60).ravel()
    for epoch in range(len(stream) // n):
        assert np.array_equal(np.sort(stream[epoch * n : (epoch + 1) * n]), np.arange(n))


def test_every_epoch_has_another_order():
    epochs = _indices(_resident(40), 8, 0, 25).reshape(5, 40)
    assert len({tuple(epoch) for epoch in epochs}) == 5
    assert not np.array_equal(epochs[0], np.arange(40))


def test_orders_are_uniform_over_permutations():
    orders = [tuple(epoch_order(3, 0, epoch)) for epoch in range(6000)]
    counts = np.array([orders.count(order) for order in set(orders)])
    assert len(counts) == 6
    assert np.sum((counts - 1000.0) ** 2 / 1000) < 20.5  # chi-squared, 5 degrees, 0.1 % level


def test_neighbouring_seeds_and_epochs_do_not_share_orders():
    orders = {tuple(epoch_order(30, seed, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


@pytest.mark.parametrize("make", [_resident, _lazy])
def test_resuming_in_mid_epoch_is_bit_identical(make):
    stream = batches(make(50), 8, 5)
    for _ in range(9):
        next(stream)
    state = json.loads(json.dumps(stream.get_state()))
    expected = [next(stream) for _ in range(20)]
    resumed = batches(make(50), 8, 5)
    next(resumed)
    resumed.set_state(state)
    for want, batch in zip(expected, resumed):
        assert want.keys() == batch.keys()
        assert all(np.array_equal(want[name], batch[name]) for name in want)


def test_going_back_repeats_the_same_batches():
    stream = batches(_lazy(30), 4, 0)
    state = stream.get_state()
    first = [next(stream)["label"] for _ in range(12)]
    stream.set_state(state)
    assert all(np.array_equal(want, next(stream)["label"]) for want in first)


@pytest.mark.parametrize("n, shards", [(60, 3), (50, 4), (5, 2)])
def test_shards_are_disjoint_within_an_epoch_and_cover_it(n, shards):
    per_shard = [_indices(_resident(n), 4, 2, 40, i, shards) for i in range(shards)]
    stream = np.stack(per_shard, axis=1).ravel()
    for epoch in range(len(stream) // n):
        assert np.array_equal(np.sort(stream[epoch * n : (epoch + 1) * n]), np.arange(n))


def test_number_of_shards_does_not_change_the_batch_of_all():
    whole = _indices(_resident(50), 12, 7, 15)
    parts = [_indices(_resident(50), 4, 7, 15, i, 3) for i in range(3)]
    assert np.array_equal(whole, np.concatenate(parts, axis=1))


def test_lazy_batches_hold_the_examples_and_labels_of_the_resident_indices():
    dataset, stream = _lazy(40), batches(_lazy(40), 8, 1)
    for index in _indices(_resident(40), 8, 1, 12):
        batch = next(stream)
        assert batch["x"].dtype == np.uint8
        assert np.array_equal(batch["x"], dataset.take(index))
        assert np.array_equal(batch["x"][:, 0, 0, 0], index)
        assert np.array_equal(batch["label"], 10 * index)


def test_lazy_batches_without_labels_hold_only_examples():
    assert set(next(batches(_lazy(10, labelled=False), 4, 0))) == {"x"}


def test_lazy_batches_are_read_ahead_but_not_without_bound():
    dataset = _lazy(40)
    stream = batches(dataset, 8, 0)
    next(stream)
    time.sleep(0.3)
    assert isinstance(dataset.source, _Squares)
    ahead = len(dataset.source.reads) / 8
    assert 2 <= ahead <= 20
    stream.close()


def test_a_readers_mistake_reaches_the_caller():
    class Broken(_Squares):
        def __getitem__(self, index: int) -> np.ndarray:
            raise UserError("a.png: not a readable image; replace or remove it")

    dataset = _lazy(10)
    object.__setattr__(dataset, "source", Broken(10))
    with pytest.raises(UserError, match="a.png: not a readable image"):
        next(batches(dataset, 4, 0))


def test_an_index_batch_costs_well_under_a_millisecond():
    stream = batches(_resident(60_000), 128, 0)
    next(stream)
    seconds = []
    for _ in range(500):
        start = time.perf_counter()
        next(stream)
        seconds.append(time.perf_counter() - start)
    assert np.median(seconds) < 0.5e-3


@pytest.mark.parametrize(
    "n, batch_size, seed, message",
    [
        (0, 4, 0, "has no examples"),
        (10, 0, 0, "batch size 0: too small"),
        (10, 4, -1, "--seed -1: too small"),
    ],
)
def test_impossible_batches_are_refused_in_one_line(n, batch_size, seed, message):
    with pytest.raises(UserError, match=message) as caught:
        batches(_resident(n), batch_size, seed)
    assert "\n" not in str(caught.value)


def test_missing_grain_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(UserError, match="pip install grain"):
        batches(_resident(10), 4, 0)


def test_a_shard_outside_the_count_is_refused():
    with pytest.raises(ValueError, match="shard_index 2"):
        batches(_resident(10), 4, 0, 2, 2)
