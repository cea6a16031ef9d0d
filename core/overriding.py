"""Which concrete methods are there to be overridden.

A class is abstract or final. An abstract one has concrete methods of two sorts: those that follow
from the abstract ones, which nobody overrides, and hooks with a default. A hook says so.
"""

from collections.abc import Callable
from typing import TypeVar

Method = TypeVar("Method", bound=Callable)


def overridable(method: Method) -> Method:
    """Marks a concrete method as a hook that subclasses may override; it stands next to the `def`,
    below `property` or `classmethod`. `tests/test_structure.py` fails on any other override."""
    method.__overridable__ = True  # pyright: ignore[reportFunctionMemberAccess]
    return method
