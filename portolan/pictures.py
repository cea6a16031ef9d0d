"""Pictures that a notebook shows by itself."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.files import write_bytes


@dataclass(frozen=True)
class Picture:
    """A PNG. The last expression of a notebook's cell is shown; `save(path)` writes it."""

    png: bytes = field(repr=False)

    def _repr_png_(self) -> bytes:
        return self.png

    def save(self, path: str | Path) -> Path:
        """Writes the PNG and returns where."""
        path = Path(path)
        write_bytes(path, self.png)
        return path


def drawn(write: Callable[[Path], Any]) -> Picture:
    """The picture that `write(path)` writes."""
    with tempfile.TemporaryDirectory(prefix="portolan-") as folder:
        path = Path(folder) / "picture.png"
        write(path)
        return Picture(path.read_bytes())
