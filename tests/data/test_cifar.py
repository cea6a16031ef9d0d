"""CIFAR-10 records written by the test."""

from pathlib import Path

import numpy as np
import pytest

from core.data import Cifar10Data
from core.errors import UserError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
LABELS = np.array([6, 0, 9, 3], np.uint8)


def write(file: Path, images=IMAGES, labels=LABELS) -> Path:
    records = [
        bytes([label]) + b"".join(image[..., c].tobytes() for c in range(3))
        for image, label in zip(images, labels)
    ]
    file.write_bytes(b"".join(records))
    return file


def test_records_become_images_with_channels_last(tmp_path):
    write(tmp_path / "test_batch.bin")
    dataset = Cifar10Data(str(tmp_path), "test").load()
    assert np.array_equal(dataset.examples, IMAGES) and dataset.examples.flags.c_contiguous
    assert dataset.labels is not None and dataset.labels.dtype == np.int32
    assert np.array_equal(dataset.labels, LABELS)
    assert [dataset.class_names[label] for label in LABELS] == ["frog", "airplane", "truck", "cat"]


def test_those_training_batches_that_exist_are_read_in_order(tmp_path):
    write(tmp_path / "data_batch_4.bin", IMAGES[2:], LABELS[2:])
    write(tmp_path / "data_batch_2.bin", IMAGES[:2], LABELS[:2])
    write(tmp_path / "test_batch.bin", IMAGES[:1], LABELS[:1])
    dataset = Cifar10Data(str(tmp_path)).load()
    assert np.array_equal(dataset.examples, IMAGES)
    assert dataset.labels is not None
    assert np.array_equal(dataset.labels, LABELS)


def _cut(folder: Path) -> None:
    file = write(folder / "data_batch_1.bin")
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: write(folder / "test_batch.bin"), "data_batch_1.bin: no such file"),
        (_cut, "data_batch_1.bin: 12291 bytes, not a whole number of 3073-byte records"),
        (lambda folder: (folder / "data_batch_3.bin").touch(), "data_batch_3.bin: 0 bytes"),
        (
            lambda folder: write(folder / "data_batch_1.bin", labels=LABELS + 1),
            "data_batch_1.bin: label 10 of example 2 is outside 0..9",
        ),
    ],
)
def test_spoilt_files_are_refused_in_one_line(tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        Cifar10Data(str(tmp_path)).load()
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
