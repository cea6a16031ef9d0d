"""Steering methods with their settings, as text: `smc`, `smc:kernel=em,steps=50`."""

import dataclasses
import typing
from typing import Any

from core.errors import UserError, pick, require
from core.steering.steering import Steering, find_steering

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
