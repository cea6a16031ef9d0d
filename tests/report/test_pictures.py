"""Pictures: files of the expected size, sharp pixels, the same bytes for the same content."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_digits

from core.data import DataSpec
from core.report.gallery import in_columns, tiles
from core.report.pictures import curve_plot, density_plot, image_grid, points_plot, reward_plot
from core.report.pictures._axes import log_x


def _read(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


@pytest.fixture(scope="module")
def digits():
    return (load_digits().images[:6] * 255 / 16).astype(np.uint8)[..., None]


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(500, 2))


def test_a_grid_without_titles_has_the_size_of_its_images_gaps_and_margins(tmp_path, digits):
    page = _read(image_grid(digits, 2, 3, tmp_path / "grid.png", scale=5))
    gap, margin = 2, 14
    assert page.shape == (2 * 40 + gap + 2 * margin, 3 * 40 + 2 * gap + 2 * margin, 3)


def test_every_pixel_of_an_image_becomes_a_sharp_square(tmp_path, digits):
    page = _read(image_grid(digits, 2, 3, tmp_path / "grid.png", scale=5))
    for index, (row, column) in enumerate(np.ndindex(2, 3)):
        top, left = 14 + row * 42, 14 + column * 42
        expected = np.kron(digits[index, :, :, 0], np.ones((5, 5), np.uint8))
        shown = page[top : top + 40, left : left + 40]
        np.testing.assert_array_equal(shown, np.repeat(expected[..., None], 3, axis=2))


def test_colours_survive(tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    page = _read(image_grid(images, 1, 1, tmp_path / "grid.png", scale=1))
    np.testing.assert_array_equal(page[14:-14, 14:-14], images[0])


@pytest.mark.parametrize("side", [8, 28, 32, 64])
def test_small_images_are_enlarged_to_be_seen(tmp_path, side):
    page = _read(image_grid(np.zeros((1, side, side, 1), np.uint8), 1, 1, tmp_path / "one.png"))
    assert 80 <= page.shape[0] - 28 < 80 + side


def test_titles_make_the_page_larger_and_leave_the_images_as_they_are(tmp_path, digits):
    plain = _read(image_grid(digits, 2, 3, tmp_path / "plain.png"))
    titled = _read(
        image_grid(
            digits,
            2,
            3,
            tmp_path / "titled.png",
            column_titles=["1 step", "2 steps", "4 steps"],
            row_titles=["a method with a name", "data"],
            title="samples, with $ and _ in the title",
        )  # fmt: skip
    )
    assert titled.shape[0] > plain.shape[0] and titled.shape[1] > plain.shape[1]
    assert np.sum(titled == 0) == np.sum(plain == 0) and np.sum(titled < 255) > np.sum(plain < 255)


def test_columns_move_apart_for_a_long_word(tmp_path, digits):
    short = _read(image_grid(digits, 2, 3, tmp_path / "a.png", ["a", "b", "c"]))
    long = _read(image_grid(digits, 2, 3, tmp_path / "b.png", ["a", "b", "incomprehensibilities"]))
    assert long.shape[1] > short.shape[1] and long.shape[0] == short.shape[0]


def test_panels_have_the_expected_size_and_are_not_blank(tmp_path, points):
    page = _read(points_plot({"data": points, "model": points + 1}, tmp_path / "points.png"))
    assert page.shape[1] == 54 + 2 * 320
    for left in (54, 374):
        inside = page[50:300, left + 10 : left + 290]
        assert 0.01 < np.mean(inside < 255) < 0.9


def test_panels_share_their_axes(tmp_path, points):
    page = _read(points_plot({"a": points, "b": points}, tmp_path / "points.png", limits=(-3, 3)))
    np.testing.assert_array_equal(page[60:330, 60:350], page[60:330, 380:670])


def test_a_shift_of_the_points_is_seen_as_one(tmp_path, points):
    """Panels are 300 pixels wide, so that one sixth of the axes is 50 pixels, right and up."""
    panels = {"a": points, "b": points + 1}
    page = _read(points_plot(panels, tmp_path / "points.png", limits=(-3, 3))).astype(float)
    here, there = page[150:280, 100:250], page[100:230, 470:620]
    assert np.abs(here - there).mean() < 0.1 * np.abs(here - page[150:280, 420:570]).mean()


def test_five_panels_take_two_rows_of_densities(tmp_path, points):
    one = _read(density_plot({"a": points}, tmp_path / "one.png"))
    five = _read(density_plot({str(i): points for i in range(5)}, tmp_path / "five.png"))
    assert five.shape[0] > 1.8 * one.shape[0] and five.shape[1] == 54 + 4 * 320
    assert len(np.unique(one[60:300, 60:300].reshape(-1, 3), axis=0)) >= 4


def test_points_that_are_not_finite_are_left_out(tmp_path, points):
    broken = points.copy()
    broken[::2] = np.nan
    for plot in (points_plot, density_plot):
        assert _read(plot({"a": broken}, tmp_path / "broken.png")).std() > 0


def test_curves_are_drawn_in_their_colours_on_all_axes(tmp_path):
    steps = np.array([1, 2, 4, 8])
    series = {"one": (steps, 1 / steps), "two": (steps, [0.5, np.nan, -1, 0.1])}
    for logx, logy in np.ndindex(2, 2):
        page = _read(
            curve_plot(series, tmp_path / "c.png", "steps", "loss", bool(logx), bool(logy), "title")
        )
        assert page.shape[0] == 50 + 330 + 64 and page.shape[1] > 90 + 560
        for colour in ((0, 114, 178), (213, 94, 0)):
            assert np.sum(np.all(page[:, 90:650] == colour, axis=2)) > 30


def test_the_same_content_gives_the_same_bytes(tmp_path, digits, points):
    for name in ("first", "second"):
        image_grid(digits, 2, 3, tmp_path / name / "grid.png", title="samples")
        points_plot({"data": points}, tmp_path / name / "points.png")
        curve_plot({"loss": ([1, 2], [3, 4])}, tmp_path / name / "curve.png", "x", "y")
    for picture in ("grid.png", "points.png", "curve.png"):
        first, second = (tmp_path / name / picture for name in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_a_picture_replaces_the_old_one_and_leaves_nothing_else(tmp_path, digits, monkeypatch):
    path = tmp_path / "grid.png"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.replace", _fail)
    with pytest.raises(OSError, match="disk"):
        image_grid(digits, 2, 3, path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
    monkeypatch.undo()
    assert _read(image_grid(digits, 2, 3, path)).std() > 0
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]


def test_wrong_grids_are_refused(tmp_path, digits):
    path = tmp_path / "grid.png"
    with pytest.raises(ValueError, match="2 by 2 cannot hold 6"):
        image_grid(digits, 2, 2, path)
    with pytest.raises(ValueError, match="2 titles for 3 columns"):
        image_grid(digits, 2, 3, path, column_titles=["a", "b"])
    with pytest.raises((ValueError, TypeError)):
        image_grid(digits / 255, 2, 3, path)
    assert not path.exists()


def _fail(*_):
    raise OSError("the disk is full")


def test_ticks_whose_labels_would_run_into_each_other_are_left_out():
    ax = Figure().add_subplot()
    log_x(ax, np.array([1.0, 2.0, 2.1, 4.0, np.nan, 7.9, 8.0]))
    assert ax.get_xticks().tolist() == [1.0, 2.0, 4.0, 7.9]


@pytest.mark.parametrize(
    "means, shown", [([0.38], True), ([0.38, 0.39, 0.4], False), ([0.35, 0.37, 0.4], True)]
)
def test_the_prior_is_a_level_unless_it_presses_several_methods(
    tmp_path, monkeypatch, means, shown
):
    figures = []

    def keep(figure, path):
        figures.append(figure)
        return path

    monkeypatch.setattr("core.report.pictures.steering.save", keep)
    rows = [{"method": str(m), "mean": m, "evaluations": 100, "exact": True} for m in means]
    reward_plot([{"mean": 0.3}, *rows], tmp_path / "reward.png")
    low, high = figures[0].axes[0].get_ylim()
    assert (low < 0.3 < high) == shown and low < min(means) <= max(means) < high
    assert "prior (0.3)" in [text.get_text() for text in figures[0].axes[0].get_legend().texts]


@pytest.mark.parametrize("labels, shape", [([0, 1, 1, 3], (2, 3)), ([2, 2], None)])
def test_columns_are_classes_and_no_sample_is_left_out(labels, shape):
    spec = DataSpec("images", "image", (2, 2, 1), 4, ("a", "b", "c", "d"))
    x = np.arange(len(labels), dtype=np.float32)[:, None, None, None] * np.ones((1, 2, 2, 1))
    shown, page = in_columns(spec, x, np.array(labels))
    if shape is None:
        assert shown.num_classes == 0 and np.array_equal(page, x)
        return
    assert shown.class_names == ("a", "b", "d") and len(page) == shape[0] * shape[1]
    first = page[:, 0, 0, 0].reshape(shape)
    nothing = np.nan  # under those that have no second
    np.testing.assert_array_equal(first, [[0, 1, 3], [nothing, 2, nothing]])
    assert [tile.min() == 255 for tile in tiles(shown, page)] == [0, 1, 1, 1, 1, 1]


def test_a_picture_of_many_classes_or_samples_has_a_limit():
    spec = DataSpec("images", "image", (1, 1, 1), 100, tuple(map(str, range(100))))
    shown, page = in_columns(spec, np.zeros((5000, 1, 1, 1)), np.arange(5000) % 100)
    assert shown.num_classes == 0 and len(page) == 400
