"""Arrays that a user saved, well and badly."""

import numpy as np
import pytest

from core.data import ArraysData
from core.errors import UserError

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
UNIT = np.linspace(0, 1, 6 * 5 * 4 * 3).reshape(BYTES.shape)
POINTS = RNG.normal(size=(6, 7))
LABELS = np.array([0, 2, 1, 4, 0, 0])


@pytest.mark.parametrize("image_key, label_key", [("images", "labels"), ("x", "y")])
def test_npz_with_images_and_labels(tmp_path, image_key, label_key):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, **{image_key: BYTES, label_key: LABELS})
    dataset = ArraysData(str(file)).load()
    assert (dataset.kind, dataset.shape, dataset.levels) == ("image", (5, 4, 3), 255)
    assert np.array_equal(dataset.examples, BYTES)
    assert dataset.labels is not None and dataset.labels.dtype == np.int32
    assert np.array_equal(dataset.labels, LABELS)
    assert dataset.num_classes == 5 and len(dataset.class_names) == 5


def test_npz_without_labels(tmp_path):
    np.savez(tmp_path / "a.npz", images=BYTES)
    dataset = ArraysData(str(tmp_path / "a.npz")).load()
    assert dataset.labels is None and dataset.num_classes == 0


def test_npy_with_labels_in_another_file(tmp_path):
    np.save(tmp_path / "x.npy", BYTES)
    np.save(tmp_path / "y.npy", LABELS.astype(np.uint8))
    dataset = ArraysData(str(tmp_path / "x.npy"), str(tmp_path / "y.npy"), num_classes=9).load()
    assert np.array_equal(dataset.examples, BYTES)
    assert dataset.labels is not None and dataset.num_classes == 9
    assert np.array_equal(dataset.labels, LABELS)


def test_gray_images_get_a_channel(tmp_path):
    np.save(tmp_path / "x.npy", BYTES[..., 0])
    dataset = ArraysData(str(tmp_path / "x.npy")).load()
    assert np.array_equal(dataset.examples, BYTES[..., :1])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_images_are_network_values(tmp_path, dtype):
    x = np.linspace(-1, 1, 2 * 3 * 3).reshape(2, 3, 3, 1).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    dataset = ArraysData(str(tmp_path / "x.npy")).load()
    assert dataset.kind == "image" and dataset.examples.dtype == np.float32
    assert np.array_equal(dataset.decode(dataset.examples), x.astype(np.float32))


def test_images_in_the_unit_interval_where_it_is_said(tmp_path):
    np.save(tmp_path / "x.npy", UNIT)
    file = str(tmp_path / "x.npy")
    unit = ArraysData(file, values="unit").load()
    np.testing.assert_allclose(unit.examples, 2 * UNIT - 1, atol=1e-6)
    np.testing.assert_allclose(ArraysData(file, values="signed").load().examples, UNIT, atol=1e-6)
    np.save(tmp_path / "x.npy", UNIT - 0.5)
    with pytest.raises(UserError, match=r"outside \[0, 1\], from -0.5 to 0.5"):
        ArraysData(file, values="unit").load()


def test_strips_with_a_channel_are_pictures(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 128, 4, 1), np.uint8))
    assert ArraysData(str(tmp_path / "x.npy")).load().shape == (128, 4, 1)


def test_a_class_without_examples_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", x=POINTS, y=LABELS)
    dataset = ArraysData(str(tmp_path / "a.npz")).load()
    assert dataset.notes == ("1 class has no example (3), so nothing is learned of it",)
    many = ArraysData(str(tmp_path / "a.npz"), num_classes=99).load()
    assert many.num_classes == 99 and many.notes[0].startswith("95 classes have no example (3, 5,")


def test_points_far_from_the_scale_of_the_noise_are_said(tmp_path):
    np.save(tmp_path / "x.npy", 300 * POINTS + 1000)
    assert (
        "where the noise has standard deviation 1"
        in ArraysData(str(tmp_path / "x.npy")).load().notes[0]
    )


def test_points_keep_their_values(tmp_path):
    np.save(tmp_path / "x.npy", 30 * POINTS)
    dataset = ArraysData(str(tmp_path / "x.npy")).load()
    assert (dataset.kind, dataset.shape) == ("points", (7,))
    assert np.array_equal(dataset.examples, (30 * POINTS).astype(np.float32))


def test_other_arrays_in_the_file_are_not_even_read(tmp_path):
    np.savez(tmp_path / "a.npz", x=POINTS, notes=np.array([{"a": 1}], dtype=object))
    assert len(ArraysData(str(tmp_path / "a.npz")).load()) == 6


def _with(x: np.ndarray, index: int, value: float) -> np.ndarray:
    x = x.copy()
    x[index, 0] = value
    return x


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"data": POINTS}, "no array named images or x"),
        ({"x": POINTS, "images": BYTES}, "holds both images and x"),
        ({"x": POINTS, "y": LABELS, "labels": LABELS}, "holds both labels and y"),
        ({"x": np.array([[1], [1, 2]], dtype=object)}, "pickled Python objects"),
        ({"x": POINTS, "y": LABELS.astype(object)}, "pickled Python objects"),
        ({"x": _with(POINTS, 4, np.nan)}, r"example 4 holds NaN or infinity \(1 of 6"),
        ({"x": _with(POINTS, 2, -np.inf)}, "example 2 holds NaN"),
        ({"x": _with(POINTS, 1, 1e300)}, "example 1 holds NaN or infinity"),
        ({"x": POINTS.astype(np.int64)}, "examples of type int64"),
        ({"x": np.array(["a", "b"])}, "examples of type <U1"),
        ({"x": POINTS[0]}, r"shape \(7,\); give uint8 or float images"),
        ({"x": BYTES[0, 0]}, r"type uint8 and shape \(4, 3\); give uint8 or float"),
        ({"x": BYTES[None]}, r"shape \(1, 6, 5, 4, 3\)"),
        ({"x": POINTS[:0]}, r"no examples \(shape \(0, 7\)\)"),
        (
            {"x": BYTES.transpose(0, 3, 1, 2)},
            r"images of shape \(3, 5, 4\); channels come last: numpy.moveaxis\(x, 1, -1\)",
        ),
        ({"x": UNIT}, "values from 0 to 1, .* washed out; give 2 \\* x - 1 .* --data.values unit"),
        (
            {"x": RNG.normal(size=(6, 128, 4))},
            r"would be 6 gray pictures of 128 x 4 pixels; say --data.kind series where they are "
            "series of 4 channels",
        ),
        ({"x": np.zeros((32, 32, 3), np.uint8)}, r"one colour picture alone as x\[None\]"),
        ({"x": POINTS, "y": LABELS + 1}, r"4 different labels \(1, 2, 3, 5\) would be 6 classes"),
        (
            {"x": POINTS, "y": [5, 17, 900_000] * 2},
            "3 different labels .* would be 900,001 .* of which 899,998 have no example; number "
            "them from 0 by .* or say that there are so many with --data.num-classes 900001",
        ),
        ({"x": BYTES.astype(np.float32)}, r"image 0 has values outside \[-1, 1\]"),
        ({"x": POINTS, "y": LABELS[:5]}, "5 labels for 6 examples"),
        ({"x": POINTS, "y": LABELS - 1}, "label -1 of example 0 is outside 0"),
        ({"x": POINTS, "y": LABELS * 10**9}, "label 2000000000 of example 1 is outside 0"),
        ({"x": POINTS, "y": LABELS.astype(float)}, "labels of shape .* and type float64"),
        ({"x": POINTS, "y": np.eye(6, dtype=int)}, r"labels of shape \(6, 6\)"),
    ],
)
def test_unusable_arrays_are_refused_in_one_line(tmp_path, arrays, message):
    file = tmp_path / "a.npz"
    np.savez(file, **arrays, allow_pickle=True)
    with pytest.raises(UserError, match=message) as caught:
        ArraysData(str(file)).load()
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)


def test_labels_beyond_the_number_of_classes_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=POINTS, y=LABELS)
    with pytest.raises(UserError, match="label 4 of example 3 is outside 0..3"):
        ArraysData(str(tmp_path / "a.npz"), num_classes=4).load()


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_truncated_files_are_refused(tmp_path, suffix):
    file = tmp_path / f"a.{suffix}"
    np.savez(file, x=POINTS) if suffix == "npz" else np.save(file, POINTS)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(UserError, match="truncated or damaged"):
        ArraysData(str(file)).load()


def test_a_damaged_member_is_refused(tmp_path):
    file = tmp_path / "a.npz"
    np.savez_compressed(file, x=BYTES)
    content = bytearray(file.read_bytes())
    content[100:120] = bytes(20)
    file.write_bytes(content)
    with pytest.raises(UserError, match="truncated or damaged"):
        ArraysData(str(file)).load()


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\x80\x04\x95", b"\x1f\x8b\x08"])
def test_files_of_another_format_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="not an .npz or .npy file"):
        ArraysData(str(tmp_path / "a.npz")).load()


def test_a_label_file_without_labels_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", POINTS)
    np.savez(tmp_path / "y.npz", other=LABELS)
    with pytest.raises(UserError, match="no array named labels or y"):
        ArraysData(str(tmp_path / "x.npy"), str(tmp_path / "y.npz")).load()


def test_a_missing_label_file_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", POINTS)
    with pytest.raises(UserError, match="--data.labels FILE"):
        ArraysData(str(tmp_path / "x.npy"), str(tmp_path / "y.npy")).load()
