"""Mistakes that a user can make, each reported in one line."""

import difflib
import errno
import sys
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


class NotFinite(UserError):
    """Samples that are not finite, where a picture or a figure of them would say nothing."""


def warn(message: str) -> None:
    """One line on stderr that says what was wrong and what was done about it."""
    print(f"warning: {' '.join(message.split())}", file=sys.stderr, flush=True)


_MEMORY = ("RESOURCE_EXHAUSTED", "out of memory", "Unable to allocate")
_FULL = ("No space left on device", "Disk quota exceeded", "RESOURCE_EXHAUSTED: Error writing")
_ANSWERS = {
    errno.ENOSPC: "free some space, or name a folder on another disk",
    errno.EDQUOT: "free some space, or name a folder on another disk",
    errno.EROFS: "name another place",
    errno.EACCES: "give the permission, or name another place",
    errno.EPERM: "give the permission, or name another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EMFILE: "allow more open files: ulimit -n",
    errno.EIO: "the disk does not answer as it should: check it",
}


def explained(error: BaseException) -> UserError | None:
    """A failure of the machine, as Python and libraries report it, as one line that says what to
    do; None for any other, which is a fault of the program."""
    if isinstance(error, UserError):
        return error
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
        where = f"{error.filename}: " if error.filename else ""
        answer = _ANSWERS.get(error.errno or 0, "name another place")
        return UserError(f"{where}{error.strerror or text}; {answer}")
    if any(words in text for words in _FULL):
        return UserError(f"the disk is full: {_ANSWERS[errno.ENOSPC]} ({text[:120]})")
    if isinstance(error, MemoryError) or any(words in text for words in _MEMORY):
        return UserError(
            "not enough memory: take fewer examples, samples or particles at once, or a smaller "
            f"network ({text[:120] or 'no more is known'})"
        )
    if isinstance(error, RecursionError):
        return UserError("what was given is nested too deeply; write it again, flat")
    if isinstance(error, UnicodeError):
        return UserError(f"a text is not UTF-8 ({text[:120]}); write it again in UTF-8")
    if isinstance(error, OverflowError):
        return UserError(f"a number is too large ({text[:120]}); give a smaller one")
    return None


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
