"""Pictures that a notebook shows by itself."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.files import write_bytes, write_text


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


@dataclass(frozen=True, repr=False)
class Strings:
    """Text samples, one a line. A notebook shows them; `save(path)` writes them."""

    text: str

    def __repr__(self) -> str:
        return self.text

    def save(self, path: str | Path) -> Path:
        """Writes the text and returns where."""
        path = Path(path)
        write_text(path, self.text)
        return path


def drawn(write: Callable[[Path], Any]) -> Picture | Strings:
    """The picture that `write(path)` writes, or of text the strings, in a .txt beside."""
    with tempfile.TemporaryDirectory(prefix="portolan-") as folder:
        path = Path(folder) / "picture.png"
        write(path)
        strings = path.with_suffix(".txt")
        if strings.exists():
            return Strings(strings.read_text("utf-8"))
        return Picture(path.read_bytes())
