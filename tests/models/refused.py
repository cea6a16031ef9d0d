"""A conversion that must fail in one line."""

from tests.apps.inside import run


def refused(capsys, monkeypatch, folder, *flags):
    """Runs the conversion, which must fail in one line, and leave the folder as it was."""
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    status, out, _ = run("convert", *flags)
    line = capsys.readouterr().err
    assert status == 2 and out == ""
    assert line.startswith("error: ") and line.count("\n") == 1 and len(line) < 700
    assert sorted(folder.rglob("*")) == before
    return line
