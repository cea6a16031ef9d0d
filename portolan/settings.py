"""From the arguments of `train` to the configuration of a run."""

import dataclasses
from typing import Any

from core import trust
from core.data import DATA
from core.data.dataset import Dataset
from core.data.python import MARK
from core.errors import UserError, pick, require
from core.methods.plugin import Plugin
from core.methods.registry import find_plugin, register
from core.train import toml
from core.train.begin import with_its_network
from core.train.cli import shape_of
from core.train.config import NOISE, TrainConfig
from core.train.recipe import recipe

NOT_HERE = {*toml.NOT_KEPT, "plugin", "data"} - {"restart", "extend"}
"""Flags of the command that are arguments of their own here, or mean nothing in Python."""
SMALL = 16
"""The longest side of an image for which the recipe of small images is meant."""

Chosen = str | type[Plugin] | Plugin
"""A method by its name, as a class with the settings that suit the data, or with its settings."""


def config_of(
    method: Chosen,
    data: str | dict[str, Any],
    settings: dict[str, Any],
    dataset: Dataset | None = None,
) -> TrainConfig:
    """The configuration with these settings, whose names and groups are those of `config.toml`.

    `dataset`, where it is given, says which recipe suits the data. Raises `UserError` for a name
    that there is not, with the nearest, and for a value of another type.
    """
    plugin, flags = _plugin(method)
    named, own = _named(data, TrainConfig.data)
    if named.startswith(MARK):
        trust.typed([named])
        named, own = "python", {"function": named, **own}
    pick(DATA, named, "data set")
    net, _ = _named(settings.get("net", {}), None)
    shape = _shape(named, own) if dataset is None else dataset.shape
    source, _ = _named(settings.get("source", NOISE), NOISE)
    default = recipe(plugin, named, net, _kind(dataset), shape, source)
    if net is None:
        default = with_its_network(default, settings.get("init"), settings.get("teacher"))
    if flags is not None:
        require("plugin" not in settings, "plugin: the method's object has its settings already")
        default = dataclasses.replace(default, plugin_flags=flags)
    tree: dict[str, Any] = {**settings, "data": {"name": named, **own}}
    for selector, name in (("net", net), ("source", source)):
        if isinstance(tree.get(selector), str):
            tree[selector] = {"name": name}
    check_names(default, tree)
    config = toml.filled(default, toml.plain(tree), "train", prefix="")
    return dataclasses.replace(config, net_flags=config.plugin_flags.net_flags(config.net_flags))


def _shape(named: str, own: dict[str, Any]) -> tuple[int, ...] | None:
    """The shape of one example, where the data say it without being loaded."""
    fields = {field.name for field in dataclasses.fields(DATA[named])}
    return shape_of(DATA[named](**own)) if fields.issuperset(own) else None


def check_names(default: Any, tree: dict[str, Any], group: str = "") -> None:
    """Raises `UserError` for the first name of `tree` that `default` has no field for."""
    fields = {field.name for field in dataclasses.fields(default)}
    known = {name for name in fields if not name.endswith("_flags")}
    known -= set() if group else NOT_HERE - {"data"}
    known |= {"plugin"} if not group else set()
    for name, value in tree.items():
        pick(dict.fromkeys(sorted(known)), name, f"setting of {group}" if group else "setting")
        inner = getattr(default, f"{name}_flags", getattr(default, name))
        if dataclasses.is_dataclass(inner):
            if not isinstance(value, dict):
                raise UserError(f"{name} is a group of settings: give {name}={{...}}")
            inside = {key: item for key, item in value.items() if key != "name" or group}
            check_names(inner, inside, f"{group}.{name}".strip("."))


def _plugin(method: Chosen) -> tuple[type[Plugin], Plugin | None]:
    """The method's class and, where they are given, its settings; a class is made known by its
    name, so that its run can be opened."""
    if isinstance(method, str):
        return find_plugin(method), None
    if isinstance(method, Plugin):
        return register(type(method)), method
    if isinstance(method, type) and issubclass(method, Plugin):
        return register(method), None
    raise UserError(f"{method!r} is no method: give a name, or a class or object of a Plugin")


def _named(value: Any, default: str | None) -> tuple[Any, dict[str, Any]]:
    """The name and the settings of `"name"` or of `{"name": ..., ...}`."""
    if isinstance(value, str):
        return value, {}
    return value.get("name", default), {key: one for key, one in value.items() if key != "name"}


def _kind(dataset: Dataset | None) -> str | None:
    if dataset is None:
        return None
    if dataset.kind != "image":
        return dataset.kind
    return "small-image" if max(dataset.shape[:2]) <= SMALL else "image"
