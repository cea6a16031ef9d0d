"""Values of TOML as fields of dataclasses have them, and back."""

import contextlib
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from core.errors import UserError


def plain(tree: dict[str, Any]) -> dict[str, Any]:
    """Nested values as TOML has them: lists for tuples, and nothing for None."""
    return {
        key: plain(value)
        if isinstance(value, dict)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in tree.items()
        if value is not None
    }


def typed(value: Any, hint: Any, what: str) -> Any:
    """A TOML value as a field of this type has it. Raises `UserError`, which begins with `what`,
    where it is of another."""
    options = get_args(hint)
    if get_origin(hint) is tuple and isinstance(value, list):
        hints = options[:1] * len(value) if options[1:] == (...,) else options
        if len(hints) == len(value):
            return tuple(typed(item, one, what) for item, one in zip(value, hints))
    elif get_origin(hint) in (Union, UnionType):
        for one in options:
            with contextlib.suppress(UserError):
                return typed(value, one, what)
    elif get_origin(hint) is Literal:
        if value in options:
            return value
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    elif hint is Any or type(value) is hint:
        return value
    raise UserError(f"{what} {value!r} is not of the type {getattr(hint, '__name__', hint)}")
