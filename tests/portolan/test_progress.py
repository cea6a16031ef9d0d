"""Progress where there is no terminal."""

import pytest
from rich.console import Console

from portolan import progress
from portolan.progress import Meter
from portolan.tables import console, quiet


@pytest.fixture
def notebook(monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", False)
    monkeypatch.setattr(console, "is_jupyter", True)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", -1.0)


def count_to_three():
    with Meter("counting", 3) as meter:
        for _ in range(3):
            meter.more(1)


def test_in_a_notebook_progress_is_one_line(notebook, capsys):
    count_to_three()
    lines = capsys.readouterr().out.split("\r")
    assert [line[:12] for line in lines[1:]] == ["counting 1/3", "counting 2/3", "counting 3/3"]
    assert [line.endswith("\n") for line in lines[1:]] == [False, False, True]


def test_what_is_quiet_shows_none(notebook, capsys):
    with quiet():
        count_to_three()
    assert capsys.readouterr() == ("", "")
