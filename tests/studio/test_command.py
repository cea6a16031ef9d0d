"""The command `apps.studio`: its flags, and what it says where it cannot serve."""

import importlib.util
import json
import signal
import subprocess
import sys
import urllib.request

import pytest

from apps import studio
from core.errors import UserError
from tests.apps.conftest import ROOT, command


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        (["--run", "a"], ["a"]),
        (["--run", "a", "--run", "b"], ["a", "b"]),
        (["--run", "a", "b", "--port", "0", "--run=c"], ["a", "b", "c"]),
        (["--port", "0"], None),
    ],
)
def test_runs_are_given_once_each_or_several_at_once(given, runs):
    found = studio.gathered(given)
    assert ("--run" in found) == (runs is not None)
    if runs is not None:
        assert found[found.index("--run") + 1 :] == runs
    assert ("--port" in found) == ("--port" in given)


def test_without_the_extra_one_line_says_how_to_install_it(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name)
    )
    with pytest.raises(UserError, match=r'uvicorn: pip install "portolan\[studio\]"'):
        studio.main([])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        studio.main(["--run", str(tmp_path)])


def test_without_runs_the_sampler_of_the_package_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert studio.usual()[0].endswith("digits")
    made = tmp_path / "runs" / "imf-digits"
    made.mkdir(parents=True)
    (made / "config.toml").touch()
    assert studio.usual() == ("runs/imf-digits",)


@pytest.mark.long
def test_it_serves_until_a_signal(tmp_path):
    process = subprocess.Popen(
        command("studio", "--port", "0"), stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        place = process.stderr.readline().split()[0]
        assert place.startswith("http://127.0.0.1:")
        asked = urllib.request.Request(
            f"{place}api/runs", b"{}", {"content-type": "application/json"}
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert b'"run": 0, "name": ' in direct.open(asked, timeout=60).read()
        process.send_signal(signal.SIGTERM)
        _, left = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + signal.SIGTERM and "stopped by SIGTERM" in left
    assert "Traceback" not in left


@pytest.mark.long
def test_the_benchmark_measures_each_control(tmp_path):
    pytest.importorskip("playwright")
    from tests.studio.browser import chromium

    with chromium():
        pass
    arguments = ["--run", str(studio.SHIPPED / "digits"), "--events", "3", "--steps", "1", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.studio", *arguments], capture_output=True, text=True
    )
    rows = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert [row["samples"] for row in rows] == [80, 1]
    assert all(0 < row["p50_ms"] <= row["p90_ms"] < 60_000 for row in rows)
