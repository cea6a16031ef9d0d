"""Runs the apps as a user does: in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = [
    "--net", "mlp", "--net.width", "16", "--net.depth", "2", "--batch", "32", "--steps", "8",
    "--dispatch", "2", "--save-every", "4", "--sample-every", "0", "--log-every", "2",
    "--evals", "1",
]  # fmt: skip
POINTS = ["--plugin", "imf", "--data", "two-moons", "--data.n", "256", *TINY]


def command(app: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"apps.{app}", *map(str, flags)]


@pytest.fixture
def run_app(tmp_path):
    """`run_app(app, *flags)` -> finished process, in an empty folder."""

    def run(app, *flags, path=(), timeout=300):
        places = [str(ROOT), *map(str, path)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        return subprocess.run(
            command(app, *flags),
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
