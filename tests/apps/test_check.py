"""`apps.check --keep`: what a file of checks has is not checked again, and not lost."""

import json
import math

import pytest

from apps import check
from core.conformance import Check
from core.errors import UserError

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


def test_it_needs_a_file():
    with pytest.raises(UserError, match="give --out FILE"):
        check.main(["--plugin", "fm", "--keep"])
