"""Methods of steering side by side, and their table."""

import ast
import dataclasses
import inspect
import re
import textwrap
from typing import Any

from core.errors import require
from core.steering.specs import configured
from core.steering.steering import Steering, steerings
from portolan.tables import print_table

COLUMNS = ("method", "answer", "what it is", "field", "default", "meaning")


def methods_of(specs: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Steering]:
    """All methods by their specs. Raises `UserError` also where two would write the same file."""
    methods = {spec: configured(spec, defaults) for spec in specs}
    names = [file_name(spec) for spec in methods]
    require(len(set(names)) == len(names), f"two of --plugin {' '.join(specs)} are alike")
    return methods


def file_name(spec: str) -> str:
    """The spec with nothing in it that a file name should not have."""
    return re.sub(r"[^\w.+-]+", "-", spec).strip("-")


def print_methods() -> dict[str, Any]:
    """The table of all methods with their settings, and the same for machines."""
    rows, listed = [], []
    for name, kind in steerings().items():
        fields = [
            {"field": field.name, "default": _shown(field.default), "meaning": meaning}
            for field, meaning in described(kind)
        ]
        what = first_line(kind)
        answer = "exact" if kind.exact else "biased"
        head = {"method": name, "answer": answer, "what it is": what}
        rows += [
            (head if i == 0 else {}) | field for i, field in enumerate(fields or [{"field": ""}])
        ]
        listed.append({"name": name, "exact": kind.exact, "what": what, "fields": fields})
    print_table("methods: --plugin NAME or NAME:field=value,...", COLUMNS, rows)
    return {"methods": listed}


def first_line(kind: type) -> str:
    """The first paragraph of a class's docstring."""
    return " ".join(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0].split())


def described(kind: type) -> list[tuple[dataclasses.Field, str]]:
    """The fields of a dataclass, each with the string that stands under it in the source."""
    meanings: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        if dataclasses.is_dataclass(cls):
            meanings |= _meanings(cls)
    return [(field, meanings.get(field.name, "")) for field in dataclasses.fields(kind)]


def _meanings(cls: type) -> dict[str, str]:
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # pyright: ignore
    return {
        field.target.id: " ".join(note.value.value.split())
        for field, note in zip(body, body[1:], strict=False)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(note, ast.Expr) and isinstance(note.value, ast.Constant)
        if isinstance(note.value.value, str)
    }


def _shown(value: Any) -> Any:
    return "-" if value is None else value
