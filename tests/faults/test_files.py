"""Files are whole or not there, and stay inside of their folder."""

import errno
import json
import os
import stat

import numpy as np
import pytest

from core import files
from core.errors import UserError

BEFORE = b"what was there"


def failing(call, number=errno.ENOSPC):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES])
def test_a_failed_write_leaves_the_old_file_and_nothing_beside(tmp_path, monkeypatch, call, number):
    path = tmp_path / "a.json"
    path.write_bytes(BEFORE)
    monkeypatch.setattr(os, call, failing(call, number))
    with pytest.raises(OSError) as error:
        files.write_json(path, {"x": 1})
    monkeypatch.undo()
    assert error.value.errno == number
    assert path.read_bytes() == BEFORE and os.listdir(tmp_path) == ["a.json"]


def test_a_failure_between_two_pieces_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(BEFORE)
    with pytest.raises(KeyboardInterrupt):
        with files.whole(path) as stream:
            stream.write(b"half")
            raise KeyboardInterrupt
    assert path.read_bytes() == BEFORE and os.listdir(tmp_path) == ["a.bin"]


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda number: calls.append("fsync"))
    moved = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("replace"), moved(a, b)))
    files.write_text(tmp_path / "new" / "a.txt", "déjà")
    assert calls == ["fsync", "replace", "fsync"]  # the file, its name, the folder with the name
    assert (tmp_path / "new" / "a.txt").read_bytes() == "déjà".encode()


def test_a_link_is_replaced_and_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_bytes(BEFORE)
    (tmp_path / "a.json").symlink_to(precious)
    files.write_json(tmp_path / "a.json", [1])
    assert precious.read_bytes() == BEFORE
    assert json.loads((tmp_path / "a.json").read_text()) == [1]
    assert not (tmp_path / "a.json").is_symlink()


def test_permissions_stay_and_pipes_are_written_directly(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(BEFORE)
    path.chmod(0o640)
    files.write_bytes(path, b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    files.write_bytes("/dev/null", b"nowhere")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_numbers_that_are_not_finite_are_null(tmp_path):
    files.write_json(tmp_path / "a", {"x": [float("nan"), 1.5, {"y": float("-inf")}]})
    assert json.loads((tmp_path / "a").read_text()) == {"x": [None, 1.5, {"y": None}]}


def test_arrays_come_back(tmp_path, rng):
    x = rng.standard_normal((3, 2))
    files.write_arrays(tmp_path / "a.npz", {"x": x})
    with np.load(tmp_path / "a.npz") as loaded:
        np.testing.assert_array_equal(loaded["x"], x)
    with pytest.raises(ValueError, match="Object arrays"):
        files.write_arrays(tmp_path / "b.npz", {"x": np.array([{}], dtype=object)})


def test_names_and_links_that_lead_out_are_refused(tmp_path):
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "checkpoints").symlink_to(run / "samples")
    assert files.inside(run, "samples", "a.png") == run / "samples" / "a.png"
    files.check_links(run, ("samples", "checkpoints", "absent"))
    for name in ("../a", "/etc/passwd"):
        with pytest.raises(UserError, match="leads out"):
            files.inside(run, name)
    (run / "samples" / "a.png").symlink_to("../../outside")
    with pytest.raises(UserError, match="leads out"):
        files.check_links(run, ("samples",))


def test_what_killed_processes_left_is_cleared(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / f"{files.UNFINISHED}0123").write_bytes(b"half")
    (tmp_path / "notes").write_bytes(BEFORE)
    files.clear_unfinished(tmp_path)
    assert os.listdir(tmp_path / "samples") == [] and (tmp_path / "notes").exists()
