"""Shards on disk: the same examples as one file, read when they are due."""

import numpy as np
import pytest

from core.data import ArraysData, batches
from core.data.record import fingerprint
from core.errors import UserError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (11, 4, 3, 5), dtype=np.uint8)
FLOATS = RNG.normal(3, 2, (11, 6, 2)).astype(np.float16)
LABELS = np.array(["a", "b"])[np.arange(11) % 2]
CUTS = [0, 4, 4, 9, 11]


def write(folder, x, labels=None):
    for k, (start, end) in enumerate(zip(CUTS, CUTS[1:])):
        np.save(folder / f"x-{k:05d}.npy", x[start:end])
    if labels is not None:
        np.save(folder / "labels.npy", labels)
    return str(folder)


@pytest.mark.parametrize("x, kind", [(BYTES, "auto"), (FLOATS, "series")])
def test_shards_are_the_file_that_they_were_cut_from(tmp_path, x, kind):
    np.savez(tmp_path / "whole.npz", x=x, labels=LABELS)
    (tmp_path / "s").mkdir()
    folder = write(tmp_path / "s", x, LABELS)
    whole = ArraysData(str(tmp_path / "whole.npz"), kind=kind).load()
    there, lazy = (ArraysData(folder, kind=kind, resident_mb=mb).load() for mb in (2048, 0))
    assert there.resident and not lazy.resident and len(lazy) == len(there) == 11
    assert np.array_equal(there.examples, whole.examples) and there.scale == whole.scale
    assert np.array_equal(lazy.take(np.arange(11)), whole.examples)
    assert lazy.spec.shape == whole.spec.shape and lazy.class_counts == (6, 5)
    np.testing.assert_allclose(lazy.decode(lazy.take(np.arange(3))), whole.decode(x[:3]), 1e-6)
    assert fingerprint(there) == fingerprint(whole)
    assert "on disk: 0.00 GiB in 3 shards" in lazy.notes[-1]


def test_batches_from_disk_go_on_where_they_were(tmp_path):
    lazy = ArraysData(write(tmp_path, BYTES, LABELS), resident_mb=0).load()
    first = batches(lazy, 4, 3)
    order = [next(first) for _ in range(2)]
    state = first.get_state()
    wanted = [next(first) for _ in range(4)]
    again = batches(ArraysData(str(tmp_path), resident_mb=0).load(), 4, 3)
    again.set_state(state)
    for batch in wanted:
        found = next(again)
        assert np.array_equal(found["x"], batch["x"])
        assert np.array_equal(found["label"], batch["label"])
    rows = {row.tobytes() for batch in order + wanted[:1] for row in batch["x"]}
    assert len(rows) == 11  # an epoch sees every row


def test_floats_in_the_unit_interval(tmp_path):
    x = np.linspace(0, 1, 11 * 8).reshape(11, 2, 2, 2)
    lazy = ArraysData(write(tmp_path, x), values="unit", resident_mb=0).load()
    np.testing.assert_allclose(lazy.decode(lazy.take(np.arange(11))), 2 * x - 1, atol=1e-6)


def _other_shape(folder):
    np.save(folder / "x-9.npy", np.zeros((2, 4, 4, 5), np.uint8))


def _short(folder):
    file = folder / "x-00000.npy"
    file.write_bytes(file.read_bytes()[:-8])


def _pickled(folder):
    np.save(folder / "x-9.npy", np.array([{}], object), allow_pickle=True)


def _fewer_labels(folder):
    np.save(folder / "labels.npy", LABELS[:9])


def _nothing(folder):
    for file in folder.glob("x-*"):
        file.unlink()
    (folder / "other.txt").touch()


CASES = [
    (_other_shape, r"x-9.npy: rows of type uint8 and shape \(4, 4, 5\), where x-00000.npy has"),
    (_short, "x-00000.npy: truncated or damaged"),
    (_pickled, "x-9.npy: holds pickled Python objects, which are never loaded"),
    (_fewer_labels, "labels.npy: 9 labels for 11 examples"),
    (_nothing, "no .npy shards in it"),
]


@pytest.mark.parametrize("spoil, message", CASES)
def test_unusable_shards_are_refused_in_one_line(tmp_path, spoil, message):
    folder = write(tmp_path, BYTES)
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        ArraysData(folder).load()
    assert "\n" not in str(caught.value)


def test_a_row_on_disk_that_is_not_finite_is_named_when_it_is_read(tmp_path):
    x = FLOATS.astype(np.float32)
    folder = write(tmp_path, x)
    source = ArraysData(folder, kind="series", resident_mb=0).load()
    x[5, 0, 0] = np.nan
    write(tmp_path, x)  # after it was looked at, which would find it in so few
    with pytest.raises(UserError, match="x-00002.npy: example 1 holds NaN"):
        source.take(np.array([5]))
