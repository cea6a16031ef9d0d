"""The methods that are known, by name.

A plugin of another package is found by an entry point of the group `portolan.plugins` that names
a module; importing the module runs its `@register`.
"""

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

from core.methods.card import Card
from core.methods.plugin import Plugin
from core.registry import Registry

Registered = TypeVar("Registered", bound=Plugin)
METHODS: Registry[type[Plugin]] = Registry("plugin")


@dataclass_transform(frozen_default=True)
def register(cls: type[Registered]) -> type[Registered]:
    """Class decorator: makes a frozen dataclass of a plugin, and makes it known by its card's name.

    A card without a family gets that of the plugin's folder. Raises `ValueError` for a class
    without a card of its own, or with a name that another class has.
    """
    card = vars(cls).get("card")
    if not isinstance(card, Card):
        raise ValueError(f"the plugin {cls.__qualname__} has no card of its own")
    cls.card = card.within(cls.__module__)
    if "__dataclass_params__" not in vars(cls):
        cls = dataclass(frozen=True)(cls)
    METHODS.add(card.name, cls)
    return cls


def plugins() -> dict[str, type[Plugin]]:
    """All plugins by name: those imported so far and those of installed packages."""
    return dict(sorted(METHODS.items()))


def find_plugin(name: str) -> type[Plugin]:
    """The plugin of that name. Raises `UserError` with the nearest name where there is none."""
    return METHODS.find(name)
