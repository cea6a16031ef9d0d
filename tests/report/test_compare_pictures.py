"""Pictures of many methods: names that can be read, colours by family, round ticks."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from core.report.pictures import Curve, Spot, cost_plot, points_plot, quality_plot
from core.report.pictures._labels import Rectangle, is_close, place
from core.report.pictures.compare import _roomy, front, round_ticks

NFE = [1, 2, 4, 8]
CURVES = [
    Curve("a", "first", NFE, [1.0, 0.5, 0.3, 0.2], [0.1, 0.1, 0.1, 0.1]),
    Curve("b", "first", NFE, [0.8, 0.5, 0.2, 0.1], [0.0, 0.0, 0.0, 0.0]),
    Curve("c", "second", NFE, [3.0, 1.0, 0.5, 0.4], [0.5, 0.9, 0.6, 0.4]),
]
BLUE, RED, GREEN = (0, 114, 178), (213, 94, 0), (0, 158, 115)


def read(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def count(page, colour):
    return int(np.all(page == colour, axis=2).sum())


def test_methods_have_the_colour_of_their_family(tmp_path):
    page = read(quality_plot({"W2": CURVES}, tmp_path / "q.png", {"W2": 0.05}, "title"))
    assert count(page, BLUE) > 200 and count(page, RED) > 100 and count(page, GREEN) == 0
    other = [*CURVES[:2], replace(CURVES[2], family="first")]
    page = read(quality_plot({"W2": other}, tmp_path / "r.png", {}))
    assert count(page, BLUE) > 300 and count(page, RED) == 0


def test_panels_stand_side_by_side_and_the_page_grows_with_the_legend(tmp_path):
    one = read(quality_plot({"W2": CURVES}, tmp_path / "1.png", {}))
    two = read(quality_plot({"W2": CURVES, "KL": CURVES}, tmp_path / "2.png", {}))
    assert two.shape[1] > 1.7 * one.shape[1] and two.shape[0] == one.shape[0]
    many = [replace(CURVES[0], name=f"method {i}", family=f"family {i % 9}") for i in range(36)]
    page = read(quality_plot({"W2": many}, tmp_path / "m.png", {"W2": 0.1}))
    assert page.shape[0] > one.shape[0] + 200
    assert (page[-10:] == 255).all() and (page[:, -10:] == 255).all()


def test_marks_and_names_are_drawn_at_any_scale_of_cost(tmp_path):
    for scale in (1e9, 1e15):
        spots = [Spot(c.name, c.family, scale * (i + 1), c.y[0]) for i, c in enumerate(CURVES)]
        page = read(cost_plot({"1": spots, "4": spots}, tmp_path / "c.png", "W2"))
        assert count(page, BLUE) > 20 and count(page, RED) > 10
    single = [Spot("alone", "first", 1e12, 0.3, 0.1)]
    assert read(cost_plot({"1": single}, tmp_path / "s.png", "W2")).std() > 0


def test_the_front_has_what_nothing_undercuts():
    places = {"cheap": (1, 9), "worse": (2, 9), "good": (3, 4), "level": (3, 5), "best": (7, 1)}
    spots = [Spot(name, "family", x, y) for name, (x, y) in reversed(places.items())]
    assert [spot.name for spot in front(spots)] == ["cheap", "good", "best"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        quality_plot({"W2": CURVES}, tmp_path / name / "q.png", {"W2": 0.05})
        spots = [Spot(c.name, c.family, 1e9, c.y[0], 0.1) for c in CURVES]
        cost_plot({"1": spots}, tmp_path / name / "c.png", "W2")
    for file in ("q.png", "c.png"):
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


def test_a_page_without_anything_is_refused(tmp_path):
    for plot in (lambda panels: quality_plot(panels, tmp_path / "q.png", {}),
                 lambda panels: cost_plot(panels, tmp_path / "q.png", "W2")):  # fmt: skip
        for panels in ({}, {"W2": []}):
            with pytest.raises(ValueError, match="at least one panel"):
                plot(panels)


def test_panels_of_points_can_be_smaller_and_more_in_a_row(tmp_path):
    panels = {str(i): np.random.default_rng(i).normal(size=(50, 2)) for i in range(7)}
    page = read(points_plot(panels, tmp_path / "p.png", columns=6, side=200))
    assert page.shape[1] == 54 + 6 * 220 and page.shape[0] < 2 * 300


@pytest.mark.parametrize(
    "seed, count",
    [
        (0, 12),
        pytest.param(0, 25, marks=pytest.mark.slow),
        *(pytest.param(seed, 25, marks=pytest.mark.long) for seed in range(1, 5)),
    ],
)
def test_names_cover_neither_each_other_nor_a_mark(seed, count):
    rng, box = np.random.default_rng(seed), Rectangle(80, 60, 500, 420)
    columns = rng.choice([150.0, 160.0, 300.0, 480.0], count)  # many methods cost the same
    points = [(float(x), float(y)) for x, y in zip(columns, rng.uniform(80, 460, count))]
    sizes = [(float(width), 15.0) for width in rng.uniform(20, 110, count)]
    names = place(points, sizes, box)
    assert names == place(points, sizes, box)
    for a, b in itertools.combinations(names, 2):
        assert a.overlap(b) == 0
    for name, (width, height) in zip(names, sizes):
        assert (name.width, name.height) == (width, height)
        assert name.overlap(box) == pytest.approx(width * height)
        assert all(np.hypot(*np.subtract(name.nearest(*p), p)) > 2 for p in points)


def test_a_lonely_name_stands_right_beside_its_mark():
    (name,) = place([(200.0, 200.0)], [(40.0, 16.0)], Rectangle(0, 0, 400, 400))
    assert is_close((200.0, 200.0), name) and name.left > 200
    assert name.bottom + name.height / 2 == pytest.approx(200)


@pytest.mark.parametrize("low, high", [(1e11, 1.3e11), (0.02, 7), (1e-9, 4e15), (0.9, 1.6)])
def test_ticks_are_round_and_few(low, high):
    ticks = round_ticks(low, high)
    assert 3 <= len(ticks) <= 8 and all(low <= tick <= high for tick in ticks)
    assert all(float(f"{tick:.2e}") == pytest.approx(tick, rel=1e-12) for tick in ticks)


def test_labels_of_operations_do_not_run_into_each_other():
    """Of 1.2e12, 1.4e12, 1.6e12, ... those too near to the one before are left out."""
    figure = Figure()
    ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    ax.set_xscale("log")
    _roomy(ax, [Spot("a", "f", 1.3e12, 1.0), Spot("b", "f", 3.8e12, 1.0)])
    low, high = ax.get_xlim()
    ticks = ax.get_xticks()
    assert 3 <= len(ticks) < len(round_ticks(low, high))
    assert np.diff(np.log(ticks)).min() > 0.1 * np.log(high / low)
