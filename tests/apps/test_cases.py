"""What people bring, as whole commands: data that change under a run, and a single picture."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.apps.inside import run
from tests.train.runs import make_run

pytestmark = [pytest.mark.slow, pytest.mark.programs(200)]

TINY = [
    "--net.width", "16", "--net.depth", "1", "--net.heads", "2", "--net.patch", "2", "--batch", "8",
    "--steps", "4", "--dispatch", "2", "--nfe", "1", "--sample-every", "0",
]  # fmt: skip
COLOURS = {"red": (220, 20, 20), "yellow": (220, 220, 20), "blue": (20, 20, 220)}


def add(folder, name="red", n=6):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(n):
        pixels = np.clip(COLOURS[name] + rng.integers(-9, 9, (8, 8, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")


def flags(data):
    return ["--data", "images", "--data.path", data, *TINY]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("changing")
    for name in ("red", "yellow"):
        add(folder / "data" / name, name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_run("run", *flags("data"))
    return folder


@pytest.fixture
def here(original, tmp_path, monkeypatch):
    """A copy of the run and of its data, where commands are called."""
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(capsys, message, app, *argv):
    """The command ends with status 2 and one line, which advises nothing that destroys."""
    capsys.readouterr()
    status, _, _ = run(app, *argv)
    said = capsys.readouterr().err
    assert status == 2 and message in said, said
    assert said.count("\n") == 1 and "delete" not in said and "restart" not in said


def test_a_class_more(here, capsys):
    add(here / "data" / "blue", "blue")
    message = "no longer those that run was trained on: 3 classes now, 2 then (new: blue)"
    refused(capsys, message, "train", *flags("data"), "--run", "run")
    refused(capsys, message, "eval", "--run", "run")
    status, _, found = run("sample", "--run", "run", "--n", "4", "--json")
    assert status == 0 and found["n"] == 4


def test_a_renamed_class(here, capsys):
    (here / "data" / "red").rename(here / "data" / "zred")
    message = "class 0 is 'yellow' now and was 'red' then, so that labels would be swapped"
    refused(capsys, message, "train", *flags("data"), "--run", "run")
    refused(capsys, message, "eval", "--run", "run")
    status, _, found = run("sample", "--run", "run", "--n", "4", "--label", "yellow", "--json")
    assert status == 0 and np.load(found["values"])["labels"].tolist() == [1] * 4
    refused(capsys, "by the names red, yellow", "sample", "--run", "run", "--label", "zred")


def test_data_that_moved(here, capsys):
    (here / "data").rename(here / "elsewhere")
    status, _, _ = run("sample", "--run", "run", "--n", "4")
    assert status == 0
    refused(capsys, "say where they are now in run/config.toml", "eval", "--run", "run")
    config = here / "run" / "config.toml"
    config.write_text(config.read_text().replace('path = "data"', 'path = "elsewhere"'))
    status, _, found = run("eval", "--run", "run", "--nfe", "1", "--json")  # as it was advised
    assert status == 0 and found["rows"][0]["n"] == 12


def test_a_start_of_other_classes(here, capsys):
    for name in COLOURS:
        add(here / "other" / name, name)
    refused(
        capsys, "classes 2 there, 3 here", "train", *flags("other"), "--init", "run", "--run", "new"
    )
    assert not (here / "new").exists()


@pytest.mark.long
def test_a_single_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    add(tmp_path / "one", n=1)
    status, _, found = run("train", *flags("one"), "--run", "run", "--json")
    assert status == 0 and found["step"] == 4
    assert "no closing table: too few examples to measure by: 1" in capsys.readouterr().err
    assert (tmp_path / "run" / "samples" / "final_1.png").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["rows"] == []
    refused(capsys, "too few examples to measure by: 1", "eval", "--run", "run")
