"""Flags that name nothing useful: one line for every data set that takes a path or a number."""

import pytest

from core.data import DATA
from core.data.checks import one_of
from core.errors import UserError

FOLDERS = ["idx", "cifar10", "images"]


def _message(name: str, **flags) -> str:
    with pytest.raises(UserError) as caught:
        DATA[name](**flags).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*FOLDERS, "arrays"])
def test_a_missing_path_flag_is_named(name):
    assert "with --data.path" in _message(name)


@pytest.mark.parametrize("name", FOLDERS)
def test_unusable_folders_are_named(name, tmp_path):
    missing, empty, file = tmp_path / "missing", tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("x")
    assert _message(name, path=str(missing)).startswith(f"{missing}: no such folder; name")
    assert _message(name, path=str(empty)).startswith(f"{empty}: the folder is empty; it should")
    assert _message(name, path=str(file)).startswith(f"{file}: not a folder; name")


def test_unusable_array_files_are_named(tmp_path):
    missing = tmp_path / "missing.npz"
    assert _message("arrays", path=str(missing)).startswith(f"{missing}: no such file; name")
    assert _message("arrays", path=str(tmp_path)).startswith(f"{tmp_path}: no .npy shards in it")


@pytest.mark.parametrize(
    "name, flags, message",
    [
        ("checkerboard", {"n": 0}, "--data.n 0: too small; give 1 or more"),
        ("two-moons", {"n": -5}, "--data.n -5: too small; give 1 or more"),
        ("spiral", {"seed": -1}, "--data.seed -1: too small; give 0 or more"),
        ("eight-gaussians", {"seed": -1}, "--data.seed -1: too small; give 0 or more"),
        ("idx", {"num_classes": 0}, "--data.num-classes 0: too small; give 1 or more"),
        ("arrays", {"num_classes": -1}, "--data.num-classes -1: too small; give 0 or more"),
        ("arrays", {"resident_mb": -1}, "--data.resident-mb -1: too small; give 0 or more"),
        ("arrays", {"range": (1.0, 1.0)}, "--data.range 1 1: the first must be the lower"),
        (
            "arrays",
            {"range": (0.0, 1.0), "values": "unit"},
            "--data.range says what becomes -1 and 1; leave out --data.values unit",
        ),
        ("images", {"path": "x", "crop": "adm"}, "--data.crop adm needs a --data.size"),
        ("images", {"size": -8}, "--data.size -8: too small; give 0 or more"),
    ],
)
def test_values_out_of_range_are_refused(name, flags, message):
    assert _message(name, **flags) == message


def test_an_unknown_choice_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="^--data.split val: unknown; choose one of train, test$"):
        one_of("val", ("train", "test"), "--data.split")


def test_a_home_folder_may_be_written_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _message("images", path="~/pictures").startswith(f"{tmp_path}/pictures: no such folder")
