"""Runs from Python: trained on arrays, resumed, saved, packed, opened."""

import json
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import portolan as po
from core.train.checkpoint import Checkpoints
from core.train.cli import parse
from portolan.loop import extension

RATE = 0.02
TINY = {"steps": 2, "batch": 16, "dispatch": 1, "evals": (1,), "net": {"width": 16, "depth": 1}}


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    return rng.standard_normal((40, 2)).astype(np.float32), np.arange(40) % 3


def trained(points, **more) -> po.Run:
    x, labels = points
    return po.train("imf", x, labels=labels, progress=False, **(TINY | more))


@pytest.fixture(scope="module")
def run(points):
    return trained(points)


def test_a_run_without_a_folder_lives_as_long_as_it_is_held(points, run, tmp_path):
    short = trained(points, steps=1)
    folder = short.folder
    assert folder.is_dir() and short.step == 1
    del short
    assert not folder.exists()
    saved = run.save(tmp_path / "kept")
    assert saved.folder == tmp_path / "kept" and saved.step == run.step == 2
    np.testing.assert_array_equal(saved.sample(5), run.sample(5))
    np.testing.assert_array_equal(saved.dataset().examples, points[0])
    written = tomllib.loads((saved.folder / "config.toml").read_text())
    assert Path(written["data"]["path"]).parent == saved.folder
    assert saved.spec.num_classes == 3 and saved.spec.shape == (2,)
    with pytest.raises(po.UserError, match="holds a run already"):
        run.save(tmp_path / "kept")


def test_the_same_call_goes_on_and_other_data_are_refused(points, run, tmp_path):
    folder = tmp_path / "run"
    run.save(folder)
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest() == 2
    checkpoints.close()
    again = trained(points, run=folder, sample_every=0, save_every=0)
    assert again.step == 2
    np.testing.assert_array_equal(again.sample(5), run.sample(5))
    with pytest.raises(po.UserError, match="holds a run of other data"):
        trained((points[0] + 1, points[1]), run=folder)
    with pytest.raises(po.UserError, match="holds another run .*batch"):
        trained(points, run=folder, sample_every=0, save_every=0, batch=8)


def test_a_run_is_extended_from_where_it_stands(points, tmp_path):
    """With a constant rate and no curriculum the longer run is the one of as many steps."""
    same = {"optim": {"schedule": "constant", "warmup": 0}, "dispatch": 2, "log_every": 1}
    folder = tmp_path / "run"
    drawn = trained(points, run=folder, steps=4, **same).sample(5)
    with pytest.raises(po.UserError, match="4 there, 6 asked.* longer with --extend"):
        trained(points, run=folder, steps=6, **same)
    longer = trained(points, run=folder, steps=6, extend=True, **same)
    whole = trained(points, run=tmp_path / "whole", steps=6, **same)
    assert longer.step == 6 and longer.config.steps == 6
    np.testing.assert_array_equal(longer.sample(5), whole.sample(5))
    assert not np.array_equal(longer.sample(5), drawn)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["steps"] == 6 and "extend" not in config
    with pytest.raises(po.UserError, match="no run in .*none to extend"):
        trained(points, run=tmp_path / "none", extend=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    "schedule, before, now",
    [
        ("cosine", 0.0, RATE * (1 + np.cos(np.pi * 4 / 6)) / 2),
        ("constant", RATE, RATE),
        ("inverse-root", RATE / np.sqrt(2), RATE / np.sqrt(2)),
    ],
)
def test_extending_says_what_becomes_of_the_learning_rate(schedule, before, now):
    flags = ["--optim.schedule", schedule, "--optim.rate", RATE, "--optim.warmup", 0]
    config = parse([*map(str, flags), "--optim.decay", "2", "--steps", "6"])
    line = extension(config, 4, 4)
    assert "from 4 to 6 steps" in line and f"rate of step 5 is {now:.3g}" in line
    assert (f"instead of {before:.3g} ({schedule})" in line) == (schedule == "cosine")
    assert "67% instead of 100%" in line


@pytest.mark.programs(32)
def test_a_packed_run_has_the_weights_in_half_precision_and_no_checkpoint(run, tmp_path):
    packed = run.save(tmp_path / "packed", weights="float16")
    names = {path.name for path in packed.folder.iterdir()}
    assert names == {"run.json", "config.toml", "data.toml", "data.npz", "weights.safetensors"}
    stored = load_file(packed.folder / "weights.safetensors")
    whole = run.save(tmp_path / "whole", weights="float32")
    for name, array in load_file(whole.folder / "weights.safetensors").items():
        np.testing.assert_array_equal(stored[name], array.astype(np.float16))
    np.testing.assert_array_equal(whole.sample(5), run.sample(5))
    far = np.abs(packed.sample(5) - run.sample(5)).max()
    assert 0 < far < 0.02 and packed.step == run.step
    with pytest.raises(po.UserError, match="did you mean 'float16'"):
        run.save(tmp_path / "other", weights="float61")


@pytest.mark.parametrize("change", ["cut", "other"])
def test_packed_weights_that_do_not_fit_are_one_line(run, tmp_path, change):
    folder = run.save(tmp_path / "packed", weights="float16").folder
    if change == "cut":
        file = folder / "weights.safetensors"
        file.write_bytes(file.read_bytes()[:-10])
    else:
        config = folder / "config.toml"
        config.write_text(config.read_text().replace("width = 16", "width = 32"))
    with pytest.raises(po.UserError, match="damaged|another network") as raised:
        po.open(folder)
    assert "\n" not in str(raised.value)


def test_arguments_that_do_not_go_together_are_one_line(points):
    for call, message in (
        (lambda: po.train("imf", "digits", labels=points[1]), "labels go with an array"),
        (lambda: po.train("imf", np.zeros((3, 4, 4, 4, 1), np.float32)), "data: examples of type"),
        (lambda: po.train("imf", points[0], labels=points[1][:3]), "labels: "),
        (lambda: po.train("mif"), "did you mean 'mf'"),
        (lambda: po.train("lmd"), "lmd needs a teacher"),
        (lambda: po.open("nowhere"), "nowhere is not a run folder"),
        (lambda: po.load("digit"), "did you mean 'digits'"),
    ):
        with pytest.raises(po.UserError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)


def test_a_method_of_a_notebook_is_trained_and_opened_by_its_name(points, tmp_path):
    imf = type(po.plugins()["imf"]())

    class Mine(po.RowPlugin):
        """Improved MeanFlow, the boundary version, under another name."""

        card = replace(imf.card, name="mine of a notebook")
        jump = imf.jump
        head: bool = False

    mine = dataclass(frozen=True)(Mine)(diagonal=0.25)  # pyright: ignore
    run = po.train(mine, points[0], run=tmp_path / "run", progress=False, **TINY)
    flags = po.open(run.folder).config.plugin_flags
    assert type(flags) is type(mine) and flags == mine
