"""What a user can do wrong: one line, exit status 2, nothing half-written."""

import gzip
import os
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from apps import eval as eval_app
from apps import sample as sample_app
from apps import train as train_app
from core.errors import UserError
from core.train.run import open_run
from tests.apps.conftest import POINTS
from tests.apps.inside import run
from tests.train.runs import make_run

pytestmark = pytest.mark.programs(100)  # runs are built, saved and opened


def idx_folder(folder, images=None, labels=None, cut=None):
    folder.mkdir()
    images = np.zeros((40, 8, 8), np.uint8) if images is None else images
    labels = np.zeros(len(images), np.uint8) if labels is None else labels
    for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        data = gzip.compress(head + array.astype(np.uint8).tobytes())
        kept = data if cut is None else data[:cut]
        (folder / f"train-{stem}-ubyte.gz").write_bytes(kept)
    return folder


def images_folder(folder, sizes):
    folder.mkdir()
    for i, size in enumerate(sizes):
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def text(path, content):
    path.write_text(content)
    return path


def nan_points():
    points = np.zeros((50, 2), np.float32)
    points[7, 1] = np.nan
    return points


CASES = {
    "unknown plugin": (lambda d: ["--plugin", "imff"], "did you mean 'imf'"),
    "unknown data set": (lambda d: ["--data", "digit"], "did you mean 'digits'"),
    "unknown network": (lambda d: ["--net", "dt"], "did you mean 'dit'"),
    "unknown flag": (lambda d: ["--stepz", "3"], "--stepz"),
    "no number": (lambda d: ["--steps", "many"], "--steps"),
    "flag of another method": (lambda d: ["--plugin", "fm", "--plugin.head"], "--plugin.head"),
    "negative rate": (lambda d: ["--optim.rate", "-1"], "--optim.rate must be a positive"),
    "rate nan": (lambda d: ["--optim.rate", "nan"], "--optim.rate must be a positive"),
    "rate infinite": (lambda d: ["--optim.rate", "inf"], "--optim.rate must be a positive"),
    "zero steps": (lambda d: ["--steps", "0"], "--steps must be at least 1"),
    "negative batch": (lambda d: ["--batch", "-4"], "--batch must be at least 1"),
    "ema of one": (lambda d: ["--ema", "1.0"], r"--ema must be in \[0, 1\)"),
    "too many devices": (lambda d: [*POINTS, "--mesh.data", "4096"], "than there are"),
    "missing data folder": (
        lambda d: ["--data", "idx", "--data.path", str(d / "nowhere")],
        "nowhere",
    ),
    "data folder not named": (lambda d: ["--data", "idx"], "--data.path"),
    "empty data folder": (
        lambda d: ["--data", "images", "--data.path", str(images_folder(d / "i", []))],
        "the folder is empty",
    ),
    "truncated gz": (
        lambda d: ["--data", "idx", "--data.path", str(idx_folder(d / "i", cut=20))],
        "train-images",
    ),
    "labels out of range": (
        lambda d: [
            "--data", "idx", "--data.path",
            str(idx_folder(d / "i", labels=np.full(40, 200))),
        ],
        "200",
    ),
    "images of two sizes": (
        lambda d: [
            "--data", "images", "--data.path", str(images_folder(d / "i", [(8, 8), (8, 9)])),
        ],
        "--data.size",
    ),
    "image of an odd size for the network": (
        lambda d: [
            "--data", "images", "--data.path", str(images_folder(d / "i", [(9, 9)] * 4)),
            "--net", "dit",
        ],
        "patch",
    ),
    "not a number in the data": (
        lambda d: ["--data", "arrays", "--data.path", str(npz(d / "x.npz", x=nan_points()))],
        "7",
    ),
    "pickled array": (
        lambda d: [
            "--data", "arrays", "--data.path",
            str(npz(d / "x.npz", x=np.array([{"a": 1}], dtype=object))),
        ],
        "x.npz",
    ),
    "a range that falls": (
        lambda d: ["--data", "arrays", "--data.path", str(d), "--data.range", "5", "1"],
        "--data.range 5 1: the first must be the lower",
    ),
    "values of another name": (lambda d: ["--data", "arrays", "--data.values", "byte"], "standard"),
    "a series of pictures": (
        lambda d: [
            "--data", "arrays", "--data.kind", "series", "--data.path",
            str(npz(d / "x.npz", x=np.zeros((50, 4, 4, 2), np.float32))),
        ],
        r"where --data.kind series takes \(n, length, channels\)",
    ),
    "points that are mirrored": (
        lambda d: [
            "--data", "arrays", "--data.flip", "--data.path",
            str(npz(d / "x.npz", x=np.ones((50, 4), np.float32))),
        ],
        "--data.flip mirrors pictures",
    ),
    "a folder without shards": (
        lambda d: ["--data", "arrays", "--data.path", str(images_folder(d / "i", [(8, 8)]))],
        "no .npy shards in it",
    ),
    "the crop of adm without a size": (
        lambda d: [
            "--data", "images", "--data.path", str(images_folder(d / "i", [(8, 8)])),
            "--data.crop", "adm",
        ],
        "--data.crop adm needs a --data.size",
    ),
    "a function that there is not": (
        lambda d: ["--data", "python:nowhere_at_all:f"],
        "nowhere_at_all:f names no function",
    ),
    "a function without a name": (
        lambda d: ["--data", "python:math"],
        "say --data python:MODULE:FUNCTION",
    ),
    "dropout of all": (lambda d: ["--net.dropout", "1"], r"--net.dropout must be in \[0, 1\)"),
    "dropout where no rows are compared": (
        lambda d: ["--plugin", "drift", "--net.dropout", "0.1"],
        "--net.dropout draws a mask for each row of a batch, and drift does not",
    ),
    "labels of another length": (
        lambda d: [
            "--data", "arrays", "--data.path",
            str(npz(d / "x.npz", x=np.zeros((50, 2), np.float32), y=np.zeros(49, int))),
        ],
        "49",
    ),
    "missing config": (lambda d: ["--config", str(d / "no.toml")], "no.toml"),
    "broken config": (lambda d: ["--config", str(text(d / "c.toml", "steps = = 3"))], "c.toml"),
    "unknown key in config": (
        lambda d: ["--config", str(text(d / "c.toml", "[optim]\nrat = 3"))],
        "--optim.rat",
    ),
    "run folder under a file": (
        lambda d: [*POINTS, "--run", str(text(d / "file", "") / "run")],
        "cannot write run folder",
    ),
    "teacher that is no run": (lambda d: [*POINTS, "--teacher", str(d)], "is not a run folder"),
    "head without a head": (lambda d: [*POINTS, "--plugin.head"], "--net.head-depth"),
}  # fmt: skip


SAMPLING = {
    "unknown grid": (["--grid", "edmm"], "unknown grid 'edmm'; did you mean 'edm'"),
    "no shift": (["--shift", "0"], "--shift must be positive, got 0"),
    "too much shift": (["--steps", "4", "--shift", "1e9"], "two times of this grid are the same"),
    "no steps": (["--steps", "0"], "--steps must be at least 1"),
    "rising times": (["--times", "1", "0.2", "0.6", "0"], "--times must decrease from noise"),
    "times that start late": (["--times", "0.5", "0"], "at least 0.9.* for example: --times 1 0.6"),
    "times and steps": (["--times", "1", "0", "--steps", "1"], "leave out --steps, --grid"),
    "gamma of none": (["--sampler", "gamma", "--gamma", "2"], "--gamma must be between 0 and 1"),
    "churn below zero": (["--sampler", "churn", "--churn", "-1"], "--churn must not be negative"),
    "levels reversed": (["--sampler", "churn", "--churn-min", "60"], "0 <= min <= max"),
    "a fine tolerance": (["--sampler", "adaptive", "--tolerance", "1e-9"], "at least 1e-6"),
    "a setting of another": (
        ["--sampler", "ddim", "--churn", "4"],
        "--churn is a setting of churn, not of ddim; leave it out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_that_says_what_to_do(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags, message = CASES[case]
    argv = flags(tmp_path)
    before = sorted(p for p in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as error:
        train_app.main(argv)
    assert "\n" not in str(error.value).strip()
    assert sorted(p for p in tmp_path.rglob("*")) == before


def test_a_user_error_is_one_line_on_stderr_and_status_2(capsys):
    status, out, _ = run("train", "--plugin", "infm")
    err = capsys.readouterr().err
    assert status == 2 and out == ""
    assert err.startswith("error: unknown plugin 'infm'") and err.count("\n") == 1


@pytest.mark.slow
def test_a_user_error_exits_with_status_2_and_no_traceback(run_app):
    result = run_app("train", "--plugin", "infm")
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown plugin 'infm'")
    assert result.stderr.count("\n") == 1 and result.stdout == ""


@pytest.mark.parametrize("main", [sample_app.main, eval_app.main])
def test_a_folder_that_is_no_run(main, tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        main(["--run", str(tmp_path)])


@pytest.fixture(scope="module")
def one_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one") / "run"
    make_run(folder, *POINTS)
    return folder


@pytest.fixture
def opened(one_run, tmp_path, monkeypatch):
    """A copy of a run, to be spoilt."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(one_run, tmp_path / "run")


def test_what_can_be_wrong_with_a_run(opened, tmp_path):
    longer = "holds another run .*--steps 8 there, 9 asked.* longer with --extend"
    with pytest.raises(UserError, match=longer):
        train_app.main([*POINTS, "--steps", "9", "--run", "run"])
    with pytest.raises(UserError, match="has 8 steps already; --extend needs a larger --steps"):
        train_app.main([*POINTS, "--steps", "7", "--run", "run", "--extend"])
    with pytest.raises(UserError, match="no run in other to extend"):
        train_app.main([*POINTS, "--steps", "9", "--run", "other", "--extend"])
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match="unknown sampler 'pushforwrd'; did you mean 'pushforward'"):
        sample_app.main(["--run", "run", "--sampler", "pushforwrd"])
    with pytest.raises(UserError, match="has no classes"):
        sample_app.main(["--run", "run", "--label", "3"])
    with pytest.raises(UserError, match="cannot write"):
        sample_app.main(["--run", "run", "--n", "4", "--out", "run/config.toml/x"])
    with pytest.raises(UserError, match="unknown feature"):
        eval_app.main(["--run", "run", "--features", "pooed"])
    for flags, message in SAMPLING.values():
        with pytest.raises(UserError, match=message) as error:
            sample_app.main(["--run", "run", *flags])
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="heun takes 2 evaluations"):
        eval_app.main(["--run", "run", "--sampler", "heun", "--nfe", "1", "--n", "16"])
    with pytest.raises(UserError, match="unknown grid 'edmm'; did you mean 'edm'"):
        eval_app.main(["--run", "run", "--grid", "edmm"])
    with pytest.raises(UserError, match="--gamma is a setting of gamma, not of euler or heun"):
        eval_app.main(["--run", "run", "--sampler", "euler", "heun", "--gamma", "0.5"])
    empty = tmp_path / "empty"
    empty.mkdir()
    shutil.copy(opened / "config.toml", empty)
    with pytest.raises(UserError, match="has no checkpoint yet"):
        sample_app.main(["--run", str(empty)])


def test_damaged_and_foreign_checkpoints(opened):
    newest = opened / "checkpoints" / "0" / "state"
    config = opened / "config.toml"
    original = config.read_text()
    config.write_text(original.replace("width = 16", "width = 24"))
    foreign = r"is whole, and of another network \(.* has shape .* there, .* here\)"
    with pytest.raises(UserError, match=foreign) as error:
        sample_app.main(["--run", "run"])
    assert "delete" not in str(error.value) and "restart" not in str(error.value)
    config.write_text(original)
    for file in newest.rglob("*"):
        if file.is_file() and file.stat().st_size > 16:
            os.truncate(file, 8)
    with pytest.raises(UserError, match="cannot be read .* move .*0 elsewhere"):
        sample_app.main(["--run", "run"])


@pytest.mark.slow
def test_a_run_goes_on_from_before_a_damaged_checkpoint(tmp_path, monkeypatch, capsys):
    """It is named, set aside, and saved again."""
    monkeypatch.chdir(tmp_path)
    train_app.main([*POINTS, "--run", "run", "--keep", "3"])
    steps = tmp_path / "run" / "checkpoints"
    for file in (steps / "8" / "state").rglob("*"):
        if file.is_file() and file.stat().st_size > 16:
            os.truncate(file, 8)
    assert open_run("run").step == 4
    line = capsys.readouterr().err.splitlines()[-1]
    assert f"{steps.relative_to(tmp_path) / '8'} cannot be read" in line
    assert line.endswith("step 4 is taken in its place")
    train_app.main([*POINTS, "--run", "run", "--keep", "3"])
    assert open_run("run").step == 8
    assert (tmp_path / "run" / "damaged" / "8").exists()


@pytest.mark.slow
def test_restart_replaces_a_run_and_nothing_else(opened):
    note = opened / "my-notes.txt"
    note.write_text("keep")
    train_app.main([*POINTS, "--steps", "4", "--run", "run", "--restart"])
    assert note.read_text() == "keep"
    assert (opened / "checkpoints" / "4").exists()
    assert '"step": 4' in (opened / "summary.json").read_text()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_names_step_and_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wild = [*POINTS, "--steps", "40", "--optim.rate", "1e30", "--optim.clip", "0", "--run", "run"]
    with pytest.raises(UserError, match=r"not finite at step \d+; the last good checkpoint is run"):
        train_app.main(wild)
    with pytest.raises(UserError, match=r"after 5 rollbacks"):
        train_app.main([*wild, "--on-nan", "rollback", "--restart"])
