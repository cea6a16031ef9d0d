"""Samples in pieces on disk: those of one draw, however often it was stopped."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.sampling import SAMPLERS, drawing_of, generate, shards
from core.sampling.shards import draw_to, from_bytes, stored_samples, to_bytes
from core.shards import Shards, found_shards

LABELS = np.arange(600, dtype=np.int32) % 3


def labelled():
    """A map whose samples depend on noise and label."""
    return AverageVelocityMap(lambda x, s, t, cond: 0.1 * x + cond.label, LinearPath())


def drawing():
    return drawing_of(SAMPLERS["restart"], LinearPath(), 2)


class Stopped(Exception):
    pass


@pytest.mark.slow
@pytest.mark.ci
def test_a_draw_that_was_stopped_goes_on_without_drawing_twice(tmp_path, monkeypatch):
    drawn = []

    def counted(*args, first, **kwargs):
        drawn.append(first)
        return generate(*args, first=first, **kwargs)

    def stop(count):
        if len(drawn) == 2:
            raise Stopped

    monkeypatch.setattr(shards, "generate", counted)
    stored = stored_samples(tmp_path, 600, (2,), False, each=256)
    with pytest.raises(Stopped):
        draw_to(stored, labelled(), drawing(), LABELS, key=jr.key(3), progress=stop)
    assert drawn == [0, 256] and stored.stored.missing() == [1, 2]
    seen = []
    draw_to(stored, labelled(), drawing(), LABELS, key=jr.key(3), progress=seen.append)
    assert drawn == [0, 256, 256, 512] and seen == [256, 256, 88]
    at_once = generate(labelled(), drawing(), (2,), LABELS, key=jr.key(3))
    assert np.array_equal(stored.values(np.arange(600)), at_once.x)
    assert stored.nfe == at_once.nfe == 2
    index = np.array([599, 0, 300, 300])
    assert np.array_equal(stored.values(index), at_once.x[index])
    stored.remove()
    assert not tmp_path.exists()


def test_pictures_are_stored_as_bytes_half_up(tmp_path):
    x = np.array([-1.5, -1, 0, 0.5 / 127.5, 1, 1.5, -0.5 / 127.5 - 1e-6])
    assert to_bytes(x).tolist() == [0, 0, 128, 128, 255, 255, 127]
    every = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_bytes(from_bytes(every)), every)
    assert from_bytes(every)[[0, 255]].tolist() == [-1, 1]
    stored = stored_samples(tmp_path, 300, (2, 2, 1), True, each=256)
    still = AverageVelocityMap(lambda x, s, t, cond: jnp.zeros_like(x), LinearPath())
    draw_to(stored, still, drawing(), 300, key=jr.key(0))
    assert stored.stored.piece(1).dtype == np.uint8
    at_once = generate(still, drawing(), (2, 2, 1), 300, key=jr.key(0)).x
    assert np.array_equal(stored.values(np.arange(300)), from_bytes(to_bytes(at_once)))


def of(folder, rows=10):
    return Shards(folder, "a", rows, 4, (2,), np.dtype(np.float32))


def test_a_piece_that_is_damaged_or_another_is_missing(tmp_path):
    whole = of(tmp_path)
    values = np.arange(20, dtype=np.float32).reshape(10, 2)
    for k in range(3):
        whole.write(k, values[4 * k : 4 * k + 4])
    assert whole.missing() == [] and len(whole) == 10
    assert np.array_equal(np.concatenate(list(whole)), values)
    assert found_shards(tmp_path, "a", 10, 4) == whole
    assert found_shards(tmp_path, "b", 10, 4) is None
    file = whole.path(1)
    assert file.name == "a-00001-of-00003.npy"
    file.write_bytes(file.read_bytes()[:-3])
    assert whole.missing() == [1]
    np.save(file, values[:3])
    assert whole.missing() == [1]
    with pytest.raises(ValueError, match="is no piece 1"):
        whole.write(1, values[:3])
    with pytest.raises(FileNotFoundError, match="00001-of-00003.npy is gone"):
        whole.read(np.array([5]))


def test_no_piece_is_read_or_written_through_a_link(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    outside = tmp_path / "outside.npy"
    of(folder).path(0).symlink_to(outside)
    with pytest.raises(UserError, match="leads out of"):
        of(folder).write(0, np.zeros((4, 2), np.float32))
    assert not outside.exists()


def test_a_part_begins_with_a_batch():
    with pytest.raises(ValueError, match="multiple of 256, got 100"):
        generate(labelled(), drawing(), (2,), LABELS, key=jr.key(0), first=100)
