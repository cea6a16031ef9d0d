"""Methods of steering with their settings: `smc`, `smc:kernel=em,steps=50`."""

import ast
import dataclasses
import inspect
import re
import textwrap
import typing
from typing import Any

from core.errors import UserError, pick, require
from core.steering.steering import Steering, find_steering, steerings
from portolan.tables import print_table

COLUMNS = ("method", "answer", "what it is", "field", "default", "meaning")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def configured(spec: str, defaults: dict[str, Any]) -> Steering:
    """The method that `name` or `name:field=value,...` asks for.

    **Arguments:** `defaults`, settings for those methods that have the field and whose spec does
    not set it; None sets nothing. **Raises:** `UserError` for an unknown name or field, with the
    nearest, and for a value that is not of the field's type or range.
    """
    name, _, settings = spec.partition(":")
    kind = find_steering(name)
    known = {field.name for field in dataclasses.fields(kind)}
    given = {key: value for key, value in defaults.items() if value is not None and key in known}
    own: dict[str, Any] = {}
    for setting in filter(None, settings.split(",")):
        field, equals, text = setting.partition("=")
        require(bool(equals), f"{spec!r}: {setting!r} is no setting; write {name}:field=value")
        require(bool(known), f"{name} has no settings")
        pick(dict.fromkeys(sorted(known)), field, f"field of {name}")
        require(field not in own, f"{spec!r} sets {field} twice")
        own[field] = _value(spec, field, text, typing.get_type_hints(kind)[field])
    return kind(**(given | own))


def methods_of(specs: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Steering]:
    """All methods by their specs. Raises `UserError` also where two would write the same file."""
    methods = {spec: configured(spec, defaults) for spec in specs}
    names = [file_name(spec) for spec in methods]
    require(len(set(names)) == len(names), f"two of --plugin {' '.join(specs)} are alike")
    return methods


def file_name(spec: str) -> str:
    """The spec with nothing in it that a file name should not have."""
    return re.sub(r"[^\w.+-]+", "-", spec).strip("-")


def _value(spec: str, field: str, text: str, hint: Any) -> Any:
    """The text as the field's type; Optional ones take "none" too."""
    options = typing.get_args(hint) or (hint,)
    if type(None) in options and text.lower() == "none":
        return None
    kind = next(option for option in options if option is not type(None))
    try:
        if kind is bool:
            return _truth(text)
        return kind(text)
    except ValueError:
        wanted = {"bool": "yes or no", "int": "a whole number", "float": "a number"}[kind.__name__]
        raise UserError(f"{spec!r}: {field} needs {wanted}, got {text!r}") from None


def _truth(text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ValueError(text)
    return text.lower() in _TRUE


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
