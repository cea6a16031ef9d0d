"""The methods that are known, by name.

A plugin of another package is found by an entry point of the group `portolan.plugins` that names
a module; importing the module runs its `@register`.
"""

import importlib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar, dataclass_transform

from core.errors import UserError, pick
from core.methods.card import Card
from core.methods.plugin import Plugin

GROUP = "portolan.plugins"

Registered = TypeVar("Registered", bound=Plugin)
_REGISTRY: dict[str, type[Plugin]] = {}
_LOADED: set[str] = set()


@dataclass_transform(frozen_default=True)
def register(cls: type[Registered]) -> type[Registered]:
    """Class decorator: makes a frozen dataclass of a plugin, and makes it known by its card's name.

    A card without a family gets that of the plugin's folder. Raises `ValueError` for a class
    without a card of its own, or with a name that another class has.
    """
    card = vars(cls).get("card")
    if not isinstance(card, Card):
        raise ValueError(f"the plugin {cls.__qualname__} has no card of its own")
    known = _REGISTRY.get(card.name)
    if known is not None and known.__qualname__ != cls.__qualname__:
        raise ValueError(f"plugin name {card.name!r} is taken by {known.__module__}")
    cls.card = card.within(cls.__module__)
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True)(cls)
    _REGISTRY[card.name] = cls
    return cls


def plugins() -> dict[str, type[Plugin]]:
    """All plugins by name: those imported so far and those of installed packages."""
    load_packages()
    return dict(sorted(_REGISTRY.items()))


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


def find_plugin(name: str) -> type[Plugin]:
    """The plugin of that name. Raises `UserError` with the nearest name where there is none."""
    return pick(plugins(), name, "plugin")
