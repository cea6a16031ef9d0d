"""Folders of pictures written by the test."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from core.data import ImagesData, batches
from core.data.summary import summary
from core.errors import UserError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)


def save(file: Path, values: np.ndarray, **options) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file, **options)
    return file


def save_classes(folder: Path) -> Path:
    for k, values in enumerate(PICTURES):
        save(folder / ("cat" if k < 4 else "dog") / f"{k}.png", values)
    return folder


def test_a_flat_folder_is_read_in_the_order_of_its_names(tmp_path):
    for k in reversed(range(6)):
        save(tmp_path / f"{k}.png", PICTURES[k])
    (tmp_path / "notes.txt").write_text("not a picture")
    dataset = ImagesData(str(tmp_path)).load()
    assert (dataset.kind, dataset.shape, dataset.levels) == ("image", (4, 5, 3), 255)
    assert np.array_equal(dataset.examples, PICTURES)
    assert dataset.labels is None and dataset.num_classes == 0


def test_sub_folders_are_classes(tmp_path):
    dataset = ImagesData(str(save_classes(tmp_path))).load()
    assert np.array_equal(dataset.examples, PICTURES)
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 0, 0, 1, 1]
    assert dataset.num_classes == 2 and dataset.class_names == ("cat", "dog")


def test_pictures_that_do_not_fit_are_read_on_demand(tmp_path):
    folder = str(save_classes(tmp_path))
    resident, lazy = ImagesData(folder).load(), ImagesData(folder, resident_mb=0).load()
    assert resident.resident and not lazy.resident and len(lazy) == 6
    assert lazy.examples.shape == (0, 4, 5, 3)
    assert np.array_equal(lazy.take(np.arange(6)), PICTURES)
    by_index, by_value = batches(resident, 4, 3), batches(lazy, 4, 3)
    for _ in range(5):
        index, batch = next(by_index)["index"], next(by_value)
        assert np.array_equal(batch["x"], PICTURES[index])
        assert np.array_equal(batch["label"], np.array([0, 0, 0, 0, 1, 1])[index])


def test_gray_pictures_have_one_channel(tmp_path):
    values = PICTURES[0, ..., 0]
    save(tmp_path / "a.png", values)
    assert np.array_equal(ImagesData(str(tmp_path), gray=True).load().examples[0, ..., 0], values)
    colour = ImagesData(str(tmp_path)).load().examples[0]
    assert np.array_equal(colour, np.repeat(values[..., None], 3, axis=-1))


@pytest.mark.parametrize("shape", [(12, 20, 3), (20, 12, 3), (12, 12, 3), (4, 6, 3)])
def test_size_cuts_the_middle_square(tmp_path, shape):
    """Left, middle and right (or upper and lower) parts differ; only the middle one remains."""
    values = np.zeros(shape, np.uint8)
    height, width = shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    values[top : top + side, left : left + side] = 200
    save(tmp_path / "a.png", values)
    x = ImagesData(str(tmp_path), size=6).load().examples[0]
    assert x.shape == (6, 6, 3)
    assert np.all(np.abs(x[1:-1, 1:-1].astype(int) - 200) <= 25) and x.mean() > 185


def test_size_averages_what_it_shrinks(tmp_path):
    board = (np.add.outer(np.arange(64), np.arange(64)) % 2 * 255).astype(np.uint8)
    save(tmp_path / "a.png", board)
    x = ImagesData(str(tmp_path), size=8, gray=True).load().examples[0]
    assert np.all(np.abs(x.astype(int) - 127) <= 2)


def test_pictures_of_several_sizes_fit_together_with_size(tmp_path):
    save(tmp_path / "a.png", PICTURES[0])
    save(tmp_path / "b.jpg", np.full((9, 7), 100, np.uint8))
    x = ImagesData(str(tmp_path), size=4).load().examples
    assert x.shape == (2, 4, 4, 3) and np.all(np.abs(x[1].astype(int) - 100) <= 2)


def test_transparent_parts_are_white(tmp_path):
    values = np.zeros((2, 2, 4), np.uint8)
    values[0, :, 3] = 255
    save(tmp_path / "a.png", values)
    x = ImagesData(str(tmp_path)).load().examples[0]
    assert np.all(x[0] == 0) and np.all(x[1] == 255)


def test_photographs_are_turned_upright(tmp_path):
    values = np.zeros((8, 16, 3), np.uint8)
    values[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter, clockwise
    save(tmp_path / "a.jpg", values, exif=exif, quality=100)
    x = ImagesData(str(tmp_path)).load().examples[0]
    assert x.shape == (16, 8, 3) and x[:7].min() > 240 and x[9:].max() < 15


def _other_size(folder: Path) -> None:
    save(folder / "a.png", PICTURES[0])
    save(folder / "b.png", PICTURES[1, :, :3])


def _damaged(folder: Path) -> None:
    save(folder / "a.png", PICTURES[0])
    file = save(folder / "b.png", PICTURES[1])
    file.write_bytes(file.read_bytes()[:-30])


def _not_a_picture(folder: Path) -> None:
    (folder / "b.jpg").write_text("hello")


def _mixed(folder: Path) -> None:
    save_classes(folder)
    save(folder / "a.png", PICTURES[0])


def _empty_class(folder: Path) -> None:
    save_classes(folder)
    (folder / "bird").mkdir()


def _class_of_drawings(folder: Path) -> None:
    save_classes(folder)
    (folder / "bird" / "2024").mkdir(parents=True)
    for k in range(2):
        (folder / "bird" / "2024" / f"{k}.svg").touch()


def _deep_and_flat(folder: Path) -> None:
    save(folder / "a.png", PICTURES[0])
    save(folder / "more" / "2024" / "b.png", PICTURES[0])


def save_deep(file: Path, values: np.ndarray) -> Path:
    """A PNG of 16 bits a channel, written by hand: Pillow writes none in colour."""

    def chunk(name, data):
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    height, width, channels = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 3: 2}[channels], 0, 0, 0)
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return file


def _twelve_bits(folder: Path) -> None:
    save_deep(folder / "a.png", PICTURES[0].astype(np.uint16) * 16)


CASES = [
    (_other_size, "b.png: 3 x 4 pixels where a.png has 5 x 4; .* --data.size N"),
    (_damaged, "b.png: not a readable image"),
    (_not_a_picture, "b.jpg: not a readable image"),
    (lambda folder: save(folder / "a.png", np.zeros((2, 2), np.uint16)), "a.png: more than 8 bits"),
    (_mixed, "pictures beside sub-folders of pictures"),
    (
        _empty_class,
        "bird: a sub-folder is a class, and this one has no PNG.* it holds nothing: put",
    ),
    (_class_of_drawings, "bird: .* no PNG.* it holds 2 .svg: put the pictures"),
    (_deep_and_flat, "1 pictures beside sub-folders of pictures"),
    (lambda folder: (folder / "a.txt").touch(), "no PNG.* in it or .* hold 1 .txt; name another"),
    (_twelve_bits, "a.png: more than 8 bits a channel, of which 12-bit .* --data.upper-byte"),
]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_upper_byte_of_sixteen_bits_where_asked(tmp_path, channels):
    values = PICTURES[0, ..., :channels]
    save_deep(tmp_path / "a.png", values.astype(np.uint16) * 256 + 99)
    flags = ImagesData(str(tmp_path), gray=channels == 1, upper_byte=True)
    assert np.array_equal(flags.load().examples[0], values)


def test_pictures_of_every_kind_are_read_and_what_is_left_out_is_said(tmp_path):
    """The formats without loss give the very values; of several frames the first."""
    save(tmp_path / "a.avif", PICTURES[0], quality=100, subsampling="4:4:4")
    for ending in ("png", "webp", "bmp", "tif", "TIFF"):
        options = {"lossless": True} if ending == "webp" else {}
        save(tmp_path / f"b.{ending}", PICTURES[0], **options)
    save(tmp_path / "c.JPG", PICTURES[0])
    gray = [Image.fromarray(values[..., 0]) for values in PICTURES[:2]]
    gray[0].save(tmp_path / "d.gif", save_all=True, append_images=gray[1:])
    for name in ("a.svg", "b.svg", "notes.txt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a.txt").touch()
    dataset = ImagesData(str(tmp_path)).load()
    assert len(dataset) == 8
    assert all(np.array_equal(x, PICTURES[0]) for x in dataset.examples[1:6])
    assert np.abs(dataset.examples[0].astype(int) - PICTURES[0]).mean() < 8
    assert np.array_equal(dataset.examples[7], np.repeat(PICTURES[0][..., :1], 3, -1))
    said = "left out: 2 .svg, 2 .txt (they are no PNG, JPEG, WebP, TIFF, BMP, GIF or AVIF files)"
    assert dataset.notes == (said,) and summary(dataset)[-1] == said


def test_a_class_is_the_top_folder_however_deep_its_pictures_lie(tmp_path):
    for k, place in enumerate(["cat/a/x/0", "cat/1", "cat/b/2", "dog/z/3", "dog/.trash/4"]):
        save(tmp_path / f"{place}.png", PICTURES[k])
    (tmp_path / "dog" / "z" / "back").symlink_to(tmp_path / "dog")  # a circle
    (tmp_path / "dog" / "z" / "notes.txt").touch()
    dataset = ImagesData(str(tmp_path)).load()
    assert dataset.class_names == ("cat", "dog")
    assert dataset.labels is not None and dataset.labels.tolist() == [0, 0, 0, 1]
    assert np.array_equal(dataset.examples, PICTURES[[1, 0, 2, 3]])  # by the names of the places
    assert dataset.notes[0].startswith("left out: 1 .txt (")


def test_avif_is_left_out_where_pillow_reads_none(tmp_path, monkeypatch):
    save(tmp_path / "a.png", PICTURES[0])
    (tmp_path / "b.avif").touch()
    monkeypatch.setattr("core.data.folders._readable", lambda: {".png"})
    notes = ImagesData(str(tmp_path)).load().notes
    assert notes[0].endswith("AVIF files, and this Pillow reads no AVIF)")


@pytest.mark.parametrize("shape, size", [((36, 52, 3), 8), ((16, 48, 3), 8), ((9, 30, 3), 9)])
def test_the_crop_of_adm(tmp_path, shape, size):
    """Means of 2 x 2 pixels by NumPy, then Pillow's bicubic of the last step alone."""
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    save(tmp_path / "a.png", values)
    found = ImagesData(str(tmp_path), size=size, crop="adm").load().examples[0]
    halved = values
    while min(halved.shape[:2]) >= 2 * size:
        high, wide, _ = halved.shape
        parts = halved.reshape(high // 2, 2, wide // 2, 2, 3).astype(int).sum((1, 3))
        halved = ((parts + 2) // 4).astype(np.uint8)
    scale = size / min(halved.shape[:2])
    wide, high = (round(side * scale) for side in halved.shape[1::-1])
    wanted = np.asarray(Image.fromarray(halved).resize((wide, high), Image.Resampling.BICUBIC))
    top, left = (high - size) // 2, (wide - size) // 2
    gap = np.abs(found - wanted[top : top + size, left : left + size].astype(int))
    assert gap.max() <= 2  # Pillow rounds after each of the two axes


def test_the_summary_names_the_classes_and_their_counts(tmp_path):
    lines = summary(ImagesData(str(save_classes(tmp_path))).load())
    assert lines[0].startswith("data images: 6 colour pictures of 4 x 5 pixels")
    assert lines[1:] == ["2 classes: cat 4, dog 2"]


@pytest.mark.parametrize("spoil, message", CASES)
def test_unusable_folders_are_refused_in_one_line(tmp_path, spoil, message):
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        ImagesData(str(tmp_path)).load()
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert not re.search("remove|delete", str(caught.value))


@pytest.mark.parametrize("spoil, message", CASES[:2])
def test_files_read_on_demand_are_refused_in_the_same_way(tmp_path, spoil, message):
    spoil(tmp_path)
    stream = batches(ImagesData(str(tmp_path), resident_mb=0).load(), 2, 0)
    with pytest.raises(UserError, match=message):
        next(stream)
