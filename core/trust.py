"""Which code may run: Portolan and what is installed, and what the user has named.

A file that is opened, such as the `config.toml` of a run that somebody hands around, may name code
of its own (`reward = "python:module:function"`). It is not imported unless the user has typed the
same name in this process, or trusts the files that are opened (`--trust`).
"""

import importlib
import importlib.util
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from core.errors import UserError

MARKS = ("python:", "numpy:")
"""How a value begins that names code."""

_found: dict[str, Path] = {}  # texts of files that may name code, and which file
_typed: set[str] = set()  # those that the user gave
_files_trusted = [False]


def opened(file: Path, tree: Any) -> None:
    """Notes the code that a file may name, whose content is `tree`, nested values."""
    _found.update((text, file) for text in _texts(tree))


def typed(words: Iterable[str]) -> None:
    """Notes the code that the user names, in the words of a command line or the arguments of a
    call."""
    _typed.update(_texts([word.partition("=")[2] if word[:2] == "--" else word for word in words]))


def trust_files(trusted: bool = True) -> None:
    """Says whether code may run that files name."""
    _files_trusted[0] = trusted


def check(name: str) -> None:
    """Raises `UserError` where the code `module:function` may not run."""
    if _files_trusted[0] or any(text.endswith(name) for text in _typed):
        return
    for text, file in _found.items():
        if text.endswith(name):
            raise UserError(
                f"{file} asks to run code, {text}, and none of it was run: read the module "
                f"{name.partition(':')[0]}, and say --trust if it may run"
            )


def check_word(word: str) -> None:
    """`check` of a word that may name code."""
    if word.startswith(MARKS):
        check(word.partition(":")[2])


def load(name: str) -> Any:
    """The value `module:name`, a function or any other. Raises `UserError` where there is none, and
    where only a file that was opened names it."""
    check(name)
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # what importing it raises is the user's too
        raise UserError(
            f"{name} names no function ({error}); give MODULE:FUNCTION, of a module on the "
            "PYTHONPATH"
        ) from None


def load_function(name: str) -> Callable[..., Any]:
    """The function `module:function`. Raises `UserError` as `load`, and for another value."""
    found = load(name)
    if not callable(found):
        raise UserError(f"{name} is no function but a {type(found).__name__}")
    return found


def source(name: str) -> bytes:
    """The source of the module of `module:function`, to take a fingerprint of; empty where it has
    none."""
    try:
        spec = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):  # made while the program runs
        spec = None
    file = None if spec is None or spec.origin is None else Path(spec.origin)
    return file.read_bytes() if file is not None and file.is_file() else b""


def words(error: Exception, function: Callable[..., Any] | None) -> str:
    """An error in a user's function in a few words, with its place in the function's file."""
    said = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
    return f"{said} ({file}, line {lines[-1]})" if lines else said


def _texts(tree: Any) -> Iterator[str]:
    """The texts with a colon among nested values."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str) and ":" in tree:
        yield tree
