"""Mistakes that a user can make, each reported in one line."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

Item = TypeVar("Item")


class UserError(Exception):
    """A mistake that a user can make and fix.

    The message is one line: what was wrong, and what to do. An app prints it to stderr and exits
    with status 2, without a traceback; so does a notebook show it.
    """

    def _render_traceback_(self) -> list[str]:
        """What IPython prints in the place of a traceback."""
        return [f"error: {self}"]


def require(holds: bool, message: str) -> None:
    """Raises `UserError` with that message unless the condition holds."""
    if not holds:
        raise UserError(message)


def pick(items: Mapping[str, Item], name: str, what: str) -> Item:
    """`items[name]`. Raises `UserError`, one line, that suggests the nearest name."""
    if name in items:
        return items[name]
    near = difflib.get_close_matches(name, items, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(items)}"
    raise UserError(f"unknown {what} {name!r}; {hint}")
