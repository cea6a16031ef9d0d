"""Dataset: stored values to network values and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.data import DATA, Dataset


def _images(levels: int | None) -> Dataset:
    stored = np.zeros((3, 2, 2, 1), np.uint8 if levels else np.float32)
    return Dataset(name="i", kind="image", shape=(2, 2, 1), examples=stored, levels=levels)


def _points() -> Dataset:
    return Dataset(name="p", kind="points", shape=(2,), examples=np.zeros((3, 2), np.float32))


@pytest.mark.parametrize("levels", [255, 16])
def test_decode_maps_the_ends_to_minus_one_and_one(levels):
    x = _images(levels).decode(np.array([0, levels], np.uint8))
    assert np.array_equal(x, np.array([-1.0, 1.0], np.float32))


def test_every_byte_survives_decode_and_encode():
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    dataset = _images(255)
    assert np.array_equal(dataset.encode(dataset.decode(stored)), stored)


def test_other_levels_are_shown_on_the_full_range():
    dataset = _images(16)
    shown = dataset.encode(dataset.decode(np.arange(17, dtype=np.uint8)))
    assert np.array_equal(shown, np.rint(np.arange(17) * 255 / 16).astype(np.uint8))


def test_values_outside_the_range_are_clipped_when_shown():
    shown = _images(255).encode(np.array([-7.0, -1.0, 1.0, 7.0]))
    assert shown.dtype == np.uint8 and shown.tolist() == [0, 0, 255, 255]


def test_encode_accepts_device_arrays_of_any_float_type():
    x = jnp.array([-1.0, 0.0, 1.0], jnp.bfloat16)
    assert _images(255).encode(x).tolist() == [0, 128, 255]


def test_float_images_and_points_are_network_values_already():
    x = np.array([-0.25, 0.5], np.float32)
    assert np.array_equal(_images(None).decode(x), x)
    assert np.array_equal(_points().decode(x), x)
    assert np.array_equal(_points().encode(x), x)


def test_decode_is_the_same_under_jit_and_gives_float32():
    dataset, x = _images(255), jnp.arange(256, dtype=jnp.uint8)
    traced = jax.jit(dataset.decode)(x)
    assert traced.dtype == jnp.float32
    assert np.allclose(traced, dataset.decode(x), rtol=0, atol=1e-6)


class _Rows:
    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows[index]


def test_take_reads_from_memory_and_from_a_source():
    stored = np.arange(10, dtype=np.float32).reshape(5, 2)
    resident = Dataset(name="p", kind="points", shape=(2,), examples=stored)
    lazy = Dataset(name="p", kind="points", shape=(2,), examples=stored[:0], source=_Rows(stored))
    index = np.array([3, 0, 3])
    assert resident.resident and not lazy.resident
    assert len(resident) == len(lazy) == 5
    assert np.array_equal(resident.take(index), stored[[3, 0, 3]])
    assert np.array_equal(lazy.take(index), stored[[3, 0, 3]])


def test_registry_holds_these_names():
    assert list(DATA) == [
        "checkerboard",
        "eight-gaussians",
        "two-moons",
        "spiral",
        "double-well",
        "mueller",
        "sphere-blobs",
        "torus-checkerboard",
        "so3-swiss-roll",
        "cells",
        "digits",
        "idx",
        "cifar10",
        "arrays",
        "images",
        "python",
        "latents",
        "text",
        "bigram",
    ]


def test_every_flag_has_a_default_so_that_help_can_be_shown():
    for config in DATA.values():
        config()
