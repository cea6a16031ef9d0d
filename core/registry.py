"""What is known by name, and what installed packages add to it.

A package names its modules in the entry-point group `portolan.plugins`; importing a module
registers what it brings: methods, steering methods, rewards, samplers, networks, data sets,
features.
"""

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from core.errors import UserError, pick

GROUP = "portolan.plugins"

Item = TypeVar("Item")
_LOADED: set[str] = set()


class Registry(Mapping[str, Item], Generic[Item]):
    """Items by name, in the order in which they were added; read like a dictionary.

    A name that is not known yet, and every listing, first imports the modules of installed
    packages. `what` names an item in messages.
    """

    def __init__(self, what: str, items: Mapping[str, Item] | None = None):
        self.what = what
        self._items = dict(items or {})

    def add(self, name: str, item: Item) -> Item:
        """Makes an item known. Raises `ValueError` where another has the name; one that was defined
        in the same place is replaced, so that a module may be imported again."""
        known = self._items.get(name)
        if known is not None and _origin(known) != _origin(item):
            raise ValueError(f"the {self.what} {name!r} is taken by {_origin(known)[0]}")
        self._items[name] = item
        return item

    def find(self, name: str) -> Item:
        """The item of that name. Raises `UserError` with the nearest name where there is none."""
        return self._items[name] if name in self._items else pick(dict(self), name, self.what)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is added inside is forgotten afterwards."""
        before = dict(self._items)
        try:
            yield
        finally:
            self._items = before

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            load_packages()
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        load_packages()
        return iter(dict(self._items))

    def __len__(self) -> int:
        load_packages()
        return len(self._items)


def _origin(item: object) -> tuple[str, str]:
    """Module and name of what an item is or, of an object, of its class and value."""
    made = getattr(item, "make", item)
    name = getattr(made, "__qualname__", None)
    return (made.__module__, name) if name else (type(item).__module__, repr(item))


def load_packages() -> None:
    """Imports the modules that installed packages name in the entry-point group, once each.

    Raises `UserError` for one that does not import.
    """
    for entry in entry_points(group=GROUP):
        if entry.value not in _LOADED:
            _load(entry)


def _load(entry: EntryPoint) -> None:
    _LOADED.add(entry.value)
    try:
        importlib.import_module(entry.value)
    except Exception as error:
        raise UserError(
            f"plugin package {entry.name!r} does not import ({type(error).__name__}: {error}); "
            "fix or uninstall it"
        ) from error
