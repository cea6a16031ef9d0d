"""MNIST-style files: written here, and Fashion-MNIST where it lies beside the repository."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from core.data import IdxData
from core.errors import UserError

FASHION = Path(__file__).resolve().parents[3] / "shared" / "data" / "fashion_mnist"
IMAGES = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
LABELS = np.array([3, 0, 9, 1, 1], np.uint8)


def idx_bytes(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


def write(folder: Path, images=IMAGES, labels=LABELS, prefix: str = "train") -> tuple[Path, Path]:
    image_file = folder / f"{prefix}-images-idx3-ubyte"
    label_file = folder / f"{prefix}-labels-idx1-ubyte"
    image_file.write_bytes(idx_bytes(images))
    label_file.write_bytes(idx_bytes(labels))
    return image_file, label_file


def compress(file: Path, keep: int | None = None) -> Path:
    packed = file.with_name(file.name + ".gz")
    packed.write_bytes(gzip.compress(file.read_bytes())[:keep])
    file.unlink()
    return packed


@pytest.mark.parametrize("packed", [False, True])
def test_images_and_labels_are_read_as_written(tmp_path, packed):
    files = write(tmp_path)
    if packed:
        for file in files:
            compress(file)
    dataset = IdxData(str(tmp_path)).load()
    assert dataset.shape == (3, 4, 1) and dataset.levels == 255
    assert np.array_equal(dataset.examples[..., 0], IMAGES)
    assert dataset.labels is not None and dataset.labels.dtype == np.int32
    assert np.array_equal(dataset.labels, LABELS)
    assert dataset.num_classes == 10 and dataset.class_names[9] == "9"


def test_splits_are_read_from_their_own_files(tmp_path):
    write(tmp_path)
    write(tmp_path, IMAGES[:2], LABELS[:2], prefix="t10k")
    assert len(IdxData(str(tmp_path), "train").load()) == 5
    assert len(IdxData(str(tmp_path), "test").load()) == 2


def _truncate_gzip(folder: Path) -> None:
    compress(write(folder)[0], keep=-9)


def _not_gzip(folder: Path) -> None:
    image_file, _ = write(folder)
    image_file.rename(f"{image_file}.gz")


def _swap(folder: Path) -> None:
    image_file, label_file = write(folder)
    image_file.write_bytes(label_file.read_bytes())


def _cut(keep: int):
    def cut(folder: Path) -> None:
        file = write(folder)[0]
        file.write_bytes(file.read_bytes()[:keep])

    return cut


def _lengthen(folder: Path) -> None:
    file = write(folder)[0]
    file.write_bytes(file.read_bytes() + b"x")


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda folder: write(folder)[0].unlink(), "train-images-idx3-ubyte: no such file"),
        (lambda folder: write(folder)[1].unlink(), "train-labels-idx1-ubyte: no such file"),
        (_truncate_gzip, "train-images-idx3-ubyte.gz: truncated or damaged gzip"),
        (_not_gzip, "train-images-idx3-ubyte.gz: truncated or damaged gzip"),
        (_swap, "train-images-idx3-ubyte: starts with 00000801 .* start with 00000803"),
        (_cut(0), "starts with nothing"),
        (_cut(9), "truncated within its header"),
        (_cut(50), "34 bytes of values where its header says 5 x 3 x 4"),
        (_lengthen, "61 bytes of values where its header says 5 x 3 x 4"),
        (lambda folder: write(folder, labels=LABELS[:4]), "4 labels for 5 examples"),
        (lambda folder: write(folder, labels=LABELS + 1), "label 10 of example 2 is outside 0..9"),
        (lambda folder: write(folder, IMAGES[:0], LABELS[:0]), "holds no images"),
    ],
)
def test_spoilt_files_are_refused_in_one_line(tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        IdxData(str(tmp_path)).load()
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.skipif(not FASHION.is_dir(), reason=f"no Fashion-MNIST at {FASHION}")
def test_fashion_mnist_has_a_thousand_test_images_of_each_class():
    dataset = IdxData(str(FASHION), "test").load()
    assert dataset.examples.shape == (10_000, 28, 28, 1)
    assert dataset.labels is not None
    assert np.bincount(dataset.labels).tolist() == [1000] * 10
    assert abs(dataset.examples.mean() / 255 - 0.2868) < 1e-3
