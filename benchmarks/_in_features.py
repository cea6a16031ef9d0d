"""What `apps.eval` finds of a run in a network's features, measured once and kept in its folder."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from core.errors import UserError


def in_features(features: str, run: Path, nfe: Iterable[int], n: int = 0) -> dict[str, Any]:
    """The `rows` of a run at these numbers of evaluations, and the `reference` of real data.

    `n`: samples a figure; 0 leaves it to `apps.eval`. Raises `UserError` where it fails.
    """
    nfe, out = tuple(nfe), run / f"eval-{features.partition('=')[0]}.json"
    if not set(nfe) <= _there(out):
        flags = ["--run", str(run), "--features", features, "--nfe", *map(str, nfe)]
        command = [sys.executable, "-m", "apps.eval", *flags, "--n", str(n), "--out", str(out)]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode:
            raise UserError(f"could not measure a run: {' '.join(command[1:])}")
    found = json.loads(out.read_text())
    return {name: found[name] for name in ("reference", "rows")}


def _there(file: Path) -> set[int]:
    """The numbers of evaluations that a file has figures at."""
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return {int(row["nfe"]) for row in rows}
