"""Samples of text: a file with one string a line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.data.spec import DataSpec
from core.files import write_text

NEW_LINE = "\u23ce"
"""What stands for the end of a line inside a string."""


def shown_in(spec: DataSpec, path: Path) -> Path:
    """The file that samples are shown in, where `path` is that of a picture: of text a .txt."""
    return path.with_suffix(".txt") if spec.kind == "tokens" else path


def one_line(text: str) -> str:
    """A string on one line."""
    return text.replace("\n", NEW_LINE)


def write_strings(
    spec: DataSpec, blocks: Sequence[np.ndarray], path: Path, title: str, names: Sequence[str] = ()
) -> Path:
    """Writes sets of samples below each other, `# title` and `## name` above them. Returns the
    file, which is that of `shown_in`."""
    lines = [f"# {title}"]
    for k, block in enumerate(blocks):
        lines += ["", f"## {names[k]}"] if names else []
        lines += [one_line(text) for text in spec.texts(block)]
    file = shown_in(spec, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "\n".join(lines) + "\n")
    return file
