"""A run and data that changed under it: named, refused where labels would be swapped, and nothing
of the run is touched."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core.data import ImagesData
from core.data.record import recorded
from core.errors import UserError
from core.train.claim import changed_data, claim
from core.train.cli import parse
from core.train.run import kept_spec

COLOURS = {"red": (220, 20, 20), "yellow": (220, 220, 20), "blue": (20, 20, 220)}


def add(folder, name, n=3):
    (folder / name).mkdir(parents=True)
    for i in range(n):
        pixels = np.full((8, 8, 3), COLOURS[name], np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{i}.png")


@pytest.fixture
def data(tmp_path):
    add(tmp_path / "data", "red")
    add(tmp_path / "data", "yellow")
    return tmp_path / "data"


@functools.cache
def parsed():
    """Flags take longer to read than all the rest here."""
    return parse(["--data", "images"])


def begin(data, gray=False, **settings):
    """Claims the run folder beside the data, as training does before its first step."""
    flags = ImagesData(path=str(data), gray=gray)
    run = str(data.parent / "run")
    spec = recorded(flags.load())
    return claim(replace(parsed(), data_flags=flags, run=run, **settings), spec), spec


def a_new_class(data):
    add(data, "blue")


def a_renamed_class(data):
    (data / "red").rename(data / "zred")


@pytest.mark.parametrize(
    "spoil, said",
    [
        (a_new_class, r"3 classes now, 2 then \(new: blue\)"),
        (a_renamed_class, "class 0 is 'yellow' now and was 'red' then, so that labels would be sw"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"extend": True, "steps": 20_000}])
def test_a_run_does_not_go_on_with_data_that_its_network_does_not_fit(data, spoil, said, settings):
    run, _ = begin(data)
    before = {file: file.read_text() for file in run.iterdir()}
    spoil(data)
    with pytest.raises(UserError, match=f"no longer those that .*run was trained on: {said}"):
        begin(data, **settings)
    assert {file: file.read_text() for file in run.iterdir()} == before


def test_added_pictures_are_named_and_the_run_keeps_what_it_began_with(data):
    run, began = begin(data)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(data / "red" / "9.png")
    _, now = begin(data)
    assert "7 examples now, 6 then" in str(changed_data(run, now))
    assert kept_spec(run) == began and began.class_counts == (3, 3) and now.class_counts == (4, 3)


def test_data_may_move_where_they_are_the_same(data):
    run, _ = begin(data)
    moved = data.rename(data.parent / "moved")
    claimed, now = begin(moved)
    assert claimed == run and changed_data(run, now) is None
    assert 'moved"' in (run / "config.toml").read_text()
    add(moved, "blue")
    (moved / "yellow").rename(data.parent / "elsewhere")
    with pytest.raises(UserError):
        begin(moved)


def test_other_data_are_another_run(data):
    begin(data)
    add(data.parent / "other", "red")
    add(data.parent / "other", "yellow", n=4)
    with pytest.raises(UserError, match="holds another run .--data.path"):
        begin(data.parent / "other")


def test_a_run_from_before_a_setting_goes_on(data):
    """A line that an older version did not write has the default, in a resumed run too."""
    run, _ = begin(data)
    config = run / "config.toml"
    kept = [line for line in config.read_text().splitlines() if not line.startswith("gray")]
    config.write_text("\n".join(kept))
    begin(data)
    with pytest.raises(UserError, match="holds another run .--data.gray False there, True asked"):
        begin(data, gray=True)
