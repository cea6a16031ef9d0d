"""Files that are whole or not there: a comparison may be killed at any moment."""

import json
import os
from pathlib import Path
from typing import Any

from apps._main import finite

EXAMPLES = "samples/examples.npz"
"""Where a run keeps the samples and real data that the common pages show."""


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, with null for numbers that are not finite."""
    write_text(path, json.dumps(finite(value), indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Writes beside the target and moves it there."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.write_text(text)
    os.replace(unfinished, path)
