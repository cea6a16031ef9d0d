"""Nothing of a run is lost: its folder is marked, has one writer, names its format and what it
began with; its checkpoints have sums, and the last one is a good one."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from core.errors import UserError
from core.train.checkpoint import Checkpoints
from core.train.claim import claim, weights_print
from core.train.cli import parse
from core.train.folder import (
    FORMAT,
    LOCK,
    MARKER,
    Marker,
    delete_run,
    mark,
    one_writer,
    read_marker,
)
from core.train.run import open_run, read_config
from core.train.sums import not_finite
from core.train.trainer import NonFinite
from tests.apps.conftest import POINTS, ROOT, command

pytestmark = pytest.mark.programs(150)  # runs are built, saved and opened


@pytest.fixture(scope="module")
def parsed():
    return parse(POINTS)


# The marker.


def files(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("name", ["checkpoints/7/x", "samples/a.png", "metrics.jsonl"])
@pytest.mark.parametrize("restart", [True, False])
def test_what_is_not_a_run_is_not_touched(tmp_path, parsed, name, restart):
    folder = tmp_path / "project"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).write_text("precious")
    before = files(folder)
    with pytest.raises(UserError, match="nothing in it was touched"):
        claim(replace(parsed, run=str(folder), restart=restart))
    assert files(folder) == before


def test_a_restart_of_an_unmarked_run_is_refused(run, parsed):
    (run / MARKER).unlink()
    before = files(run)
    with pytest.raises(UserError, match=r"no run\.json says that .* holds a run"):
        claim(replace(parsed, run=str(run), restart=True))
    assert files(run) == before


def test_a_restart_deletes_what_the_run_wrote_and_nothing_else(run, parsed):
    kept = ["samples/mine.png", "checkpoints/notes.txt", "damaged/notes", "notes.txt", "data.npz"]
    gone = ["samples/step_0000004.png", "samples/final_1.png", "metrics.jsonl", "summary.json"]
    for name in kept + gone:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text(name)
    claim(replace(parsed, run=str(run), restart=True))
    assert all((run / name).read_text() == name for name in kept)
    assert not any((run / name).exists() for name in gone)
    assert os.listdir(run / "checkpoints") == ["notes.txt"]
    assert read_marker(run) is not None and (run / "config.toml").exists()


def test_what_cannot_be_deleted_is_an_error(run, parsed, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(UserError, match="cannot write run folder .*Permission denied"):
        claim(replace(parsed, run=str(run), restart=True))
    assert (run / "config.toml").exists()


def test_a_restart_that_was_killed_can_be_repeated(run, parsed, monkeypatch):
    unlink, calls = Path.unlink, []

    def dies(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        unlink(self, *args, **kwargs)

    monkeypatch.setattr(Path, "unlink", dies)
    with pytest.raises(KeyboardInterrupt):
        delete_run(run)
    monkeypatch.undo()
    assert not (run / "checkpoints").exists() or not os.listdir(run / "checkpoints")
    claim(replace(parsed, run=str(run), restart=True))
    assert Checkpoints(run).latest() is None


def test_a_resumed_run_keeps_its_config_as_it_was_written(run, parsed):
    config = run / "config.toml"
    before = config.stat()
    claim(replace(parsed, run=str(run), save_every=7))
    assert config.stat().st_mtime_ns == before.st_mtime_ns
    claim(replace(parsed, run=str(run), steps=9, extend=True))
    assert read_config(run).steps == 9


# One writer.


def test_a_second_writer_is_refused_and_learns_who_writes(tmp_path):
    folder = tmp_path / "new" / "run"
    with one_writer(folder):
        with pytest.raises(UserError, match=rf"written by process {os.getpid()} on "):
            with one_writer(folder):
                pass
        assert (folder / LOCK).exists()
    assert os.listdir(tmp_path) == []  # nothing was written, so nothing is left
    with one_writer(folder):
        (folder / "a").write_text("x")
    assert os.listdir(folder) == ["a"]


HOLD = "import sys, time; from core.train.folder import one_writer\n" + (
    "with one_writer(sys.argv[1]): print('mine', flush=True); time.sleep(60)"
)


def holder(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "mine\n"
    return process


@pytest.mark.slow
def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    process = holder(tmp_path / "run")
    began = time.monotonic()
    with pytest.raises(UserError, match=f"written by process {process.pid} on "):
        with one_writer(tmp_path / "run"):
            pass
    assert time.monotonic() - began < 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    with one_writer(tmp_path / "run"):
        pass


@pytest.mark.slow
def test_of_two_trainings_in_one_folder_one_trains_and_the_other_says_so(tmp_path):
    """Within a second of the moment at which it could have begun."""
    flags = [*POINTS, "--steps", "2000", "--dispatch", "100", "--save-every", "1000"]
    flags += ["--run", str(tmp_path / "run")]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    begun = [
        subprocess.Popen(command("train", *flags), env=env, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = {process: process.communicate(timeout=300)[1] for process in begun}
    refused, trained = sorted(begun, key=lambda process: -process.returncode)
    assert (refused.returncode, trained.returncode) == (2, 0), ended
    assert f"written by process {trained.pid} on " in ended[refused]
    assert read_config(tmp_path / "run").steps == 2000 == Checkpoints(tmp_path / "run").latest()


# The format.


def test_a_run_of_a_later_format_is_refused_by_version(run):
    mark(run, Marker(FORMAT + 1, "9.1.0"))
    for call in (open_run, lambda folder: claim(replace(parse(POINTS), run=str(folder)))):
        with pytest.raises(UserError, match=r"Portolan 9\.1\.0 in format 2, .* reads formats up"):
            call(run)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        ("[" * 9999, "cannot be read"),
        ("[]", "is not of Portolan"),
        ('{"portolan": "run"}', "names no format"),
        ('{"portolan": "run", "format": "1"}', "names no format"),
    ],
)
def test_a_marker_that_says_nothing_is_one_line(run, text, said):
    (run / MARKER).write_text(text)
    with pytest.raises(UserError, match=said):
        read_marker(run)


def test_a_run_without_a_marker_opens_and_is_marked_when_it_goes_on(tmp_path, parsed):
    old = Path(__file__).parents[1] / "train" / "old_run.zip"
    zipfile.ZipFile(old).extractall(tmp_path)
    assert (
        read_marker(tmp_path) is None and 'wandb = "off"' in (tmp_path / "config.toml").read_text()
    )
    config = read_config(tmp_path)
    claim(config)
    assert read_marker(tmp_path).format == FORMAT
    assert "wandb" not in (tmp_path / "config.toml").read_text()
    assert read_config(tmp_path) == config


# What a run began with.


def test_another_version_or_teacher_goes_on_only_when_that_is_said(run, parsed, capsys):
    config = replace(parsed, run=str(run))
    mark(run, replace(read_marker(run), version="0.1.0"))
    with pytest.raises(UserError, match=r"begun with Portolan 0\.1\.0, .* --changed"):
        claim(config)
    claim(replace(config, changed=True))
    assert "goes on changed: it was begun with Portolan 0.1.0" in capsys.readouterr().err
    mark(run, replace(read_marker(run), version=Marker().version, code="0" * 16))
    claim(config)
    assert "other sources" in capsys.readouterr().err


def test_the_fingerprint_of_a_teacher_is_that_of_its_weights(run, tmp_path):
    before = weights_print(run)
    assert re.fullmatch("[0-9a-f]{16}", before)
    assert weights_print(shutil.copytree(run, tmp_path / "elsewhere")) == before
    shutil.rmtree(run / "checkpoints" / "3")
    assert weights_print(run) != before


def test_a_run_goes_on_with_another_teacher_only_when_that_is_said(tmp_path, run, capsys):
    """The teacher is another run in the same folder by now; everything else is as it was."""
    teacher, student = tmp_path / "teacher", str(tmp_path / "student")
    shutil.copytree(run, teacher)
    taught = ["--plugin", "lmd", *POINTS[2:], "--teacher", str(teacher), "--run", student]
    config = parse(taught)
    claim(config)
    claim(config)
    shutil.rmtree(teacher / "checkpoints" / "3")
    before = files(Path(student))
    with pytest.raises(UserError, match="its teacher has other weights by now.* --changed"):
        claim(config)
    assert files(Path(student)) == before
    claim(replace(config, changed=True))
    assert "goes on changed: its teacher has other weights" in capsys.readouterr().err


# The last good checkpoint is good.


@pytest.mark.parametrize("part", ["players", "ema", "opt"])
def test_a_state_that_is_not_finite_is_not_saved(run, part):
    config = read_config(run)
    from core.train.teachers import build_run
    from core.train.trainer import Trainer

    trainer = Trainer(config, build_run(config))
    leaves, tree = jax.tree.flatten(getattr(trainer.state, part))
    at = next(k for k, leaf in enumerate(leaves) if jnp.issubdtype(leaf.dtype, jnp.inexact))
    leaves[at] = leaves[at].at[(0,) * leaves[at].ndim].set(jnp.nan)
    spoilt = jax.tree.unflatten(tree, leaves)
    trainer.state = eqx.tree_at(lambda s: getattr(s, part), trainer.state, spoilt)
    trainer.state = eqx.tree_at(lambda s: s.step, trainer.state, jnp.asarray(8, jnp.int32))
    checkpoints = Checkpoints(run)
    with pytest.raises(NonFinite, match=rf"^{part}\..* is not finite at step 8"):
        trainer.save(checkpoints)
    assert checkpoints.steps() == (0, 3)
    checkpoints.close()


def test_numbers_that_are_not_finite_are_found(rng):
    good = {"a": jnp.arange(3), "b": jnp.asarray(rng.standard_normal(3))}
    assert not_finite(good) is None
    assert not_finite({**good, "c": jnp.asarray([1.0, jnp.inf])}) == "c"
