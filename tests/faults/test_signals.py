"""SIGTERM and Ctrl-C at any moment: one line, the signal's status, and what is saved stays."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from apps._main import launch
from core.train.run import open_run
from tests.apps.conftest import POINTS, ROOT, command
from tests.apps.inside import run as inside

LONG = [*POINTS, "--steps", "4000", "--dispatch", "5", "--save-every", "500", "--evals", "1"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_outside_of_the_loop_is_one_line(number, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["app"])

    def work(argv):
        os.kill(os.getpid(), number)
        time.sleep(10)

    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop:
        launch(work)
    assert stop.value.code == 128 + number and signal.getsignal(number) == before
    err = capsys.readouterr().err
    assert err.startswith(f"stopped by {number.name}; ") and err.count("\n") == 1


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(28, "No space left on device", "/runs/x"), "/runs/x: No space left on device; fr"),
        (PermissionError(13, "Permission denied", "/x"), "/x: Permission denied; give the perm"),
        (OSError(36, "File name too long", "/x"), "/x: File name too long; give a shorter name"),
        (MemoryError("Unable to allocate 9 TiB"), "not enough memory: "),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "not enough memory: "),
        (RecursionError("maximum"), "nested too deeply"),
        (UnicodeDecodeError("utf-8", b"\\xff", 0, 1, "x"), "is not UTF-8"),
        (OverflowError("Python int too large"), "a number is too large"),
    ],
)
def test_a_failure_of_the_machine_is_one_line(error, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["app"])

    def work(argv):
        raise error

    with pytest.raises(SystemExit) as stop:
        launch(work)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and said in err and err.count("\n") == 1


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("sys.argv", ["app"])

    def work(argv):
        raise KeyError("x")

    with pytest.raises(KeyError):
        launch(work)


@pytest.mark.parametrize("said, shown", [("Event loop is closed", 0), ("something else", 1)])
def test_late_answers_of_writes_that_failed_are_left_out(said, shown, monkeypatch):
    """Orbax's threads raise the first where no `try` sees it, after the line that says why."""
    seen = []
    for name in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, name, lambda *found: seen.append(found))
    monkeypatch.setattr("sys.argv", ["app"])

    def work(argv):
        error = RuntimeError(said)
        sys.excepthook(RuntimeError, error, None)
        sys.unraisablehook(SimpleNamespace(exc_value=error))

    launch(work)
    assert len(seen) == 2 * shown


def test_square_brackets_in_names_are_no_styles(tmp_path, capsys):
    status, _, _ = inside("sample", "--run", tmp_path / "[red]run[/red]")
    assert status == 2 and "[red]run[/red]" in capsys.readouterr().err


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(tmp_path):
    shell = " ".join(command("plugins")) + " | head -1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, env=env)
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", [0.5, 2.0, 4.0, 6.0, 8.0, 12.0])
def test_a_signal_at_any_moment_of_a_training(number, after, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    flags = command("train", *LONG, "--run", str(tmp_path / "run"))
    process = subprocess.Popen(flags, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    time.sleep(after)
    process.send_signal(number)
    err, status = process.communicate(timeout=120)[1], process.returncode
    assert "Traceback" not in err
    if status == 0:  # it had ended
        return
    if after >= 2:  # before, Python itself is not there yet
        assert status == 128 + number and "stopped" in err.splitlines()[-1]
    if (tmp_path / "run" / "checkpoints").exists() and "saved at step" in err:
        assert open_run(tmp_path / "run").step > 0
    again = subprocess.run(
        [*flags, "--steps", "4000"], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
