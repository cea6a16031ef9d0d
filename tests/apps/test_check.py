"""`apps.check --keep`: what a file of checks has is not checked again, and not lost."""

import json
import math

import pytest

from apps import check
from core.conformance import Check
from core.errors import UserError
from core.files import finite

FOUND = Check("card", "G0", 0.0, 1e-6, math.inf)


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of checks, and what was checked since."""
    asked = []

    def found(config, plugin, space):
        asked.append(plugin)
        return [FOUND]

    monkeypatch.setattr(check, "_checks", found)
    path = tmp_path / "checks.json"
    return path, asked


def names(path):
    return [each["name"] for each in json.loads(path.read_text())["plugins"]]


def test_a_stopped_call_goes_on_and_nothing_is_lost(file):
    path, asked = file
    check.main(["--plugin", "fm", "--out", str(path)])
    before = json.loads(path.read_text())["plugins"]
    assert len(asked) == 1 and names(path) == ["fm"]
    check.main(["--plugin", "reflow", "--out", str(path), "--keep"])
    assert len(asked) == 2 and names(path) == ["reflow", "fm"]
    check.main(["--plugin", "fm", "--out", str(path), "--keep"])
    assert len(asked) == 2 and names(path) == ["fm", "reflow"]
    assert json.loads(path.read_text())["plugins"][:1] == before
    page = path.with_suffix(".md").read_text()
    assert "| fm | card | G0 | 0.0e+00 | 1e-06 | inf | yes |" in page and "| reflow |" in page


def test_without_it_a_file_is_written_again(file):
    path, _ = file
    check.main(["--plugin", "fm", "--out", str(path)])
    check.main(["--plugin", "reflow", "--out", str(path)])
    assert names(path) == ["reflow"]


@pytest.mark.parametrize("text", ["no JSON", "{}", '{"plugins": [{"name": "fm", "checks": [{}]}]}'])
def test_a_file_of_something_else_is_refused_and_stays(file, text):
    path, _ = file
    path.write_text(text)
    with pytest.raises(UserError, match="is no file of checks .* name another --out"):
        check.main(["--plugin", "fm", "--out", str(path), "--keep"])
    assert path.read_text() == text


@pytest.mark.parametrize("flag", [["--dtype"], ["--weights"], ["--plugin.power", "1"]])
def test_it_is_for_checks_of_methods_as_they_are(file, flag):
    path, _ = file
    path.write_text("{}")
    with pytest.raises(UserError, match="--keep knows methods by their names"):
        check.main(["--plugin", "imf", "--out", str(path), "--keep", *flag])
    assert path.read_text() == "{}"


@pytest.mark.parametrize("value, control", [(float("nan"), 1.0), (0.0, float("nan"))])
def test_what_is_not_finite_does_not_pass_after_a_file_either(value, control):
    before = Check("a", "E0", value, 0.5, control)
    after = Check.from_json(json.loads(json.dumps(finite(before.to_json()))))
    assert not before.passed and not after.passed
    assert Check.from_json(finite(FOUND.to_json())) == FOUND


def test_it_needs_a_file():
    with pytest.raises(UserError, match="give --out FILE"):
        check.main(["--plugin", "fm", "--keep"])
