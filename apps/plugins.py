"""Lists the registered methods: `python -m apps.plugins`."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from apps._main import launch
from core.errors import UserError
from core.methods.plugin import Plugin
from core.methods.registry import plugins
from core.train.cli import parse_flags
from portolan.tables import markdown_table, print_table

COLUMNS = (
    "name", "kind", "family", "rule", "supervision", "parameterisation", "gradient", "targets",
    "spaces", "cost", "source",
)  # fmt: skip
KINDS = {"points": "points", "small images": "small-image", "images": "image"}
"""The columns of a table of defaults, and what the recipes call these kinds of data."""


@dataclass(frozen=True)
class PluginsConfig:
    """Lists the registered methods: rule, supervision, parameterisation, cost and source.

    gradient: what of the map carries the gradient of the loss; all else in it is a number. targets:
    whose parameters these numbers depend on. spaces: whether it runs on spheres, tori and rotations
    too, or in flat space alone. The cost is that of one training example in forward
    passes, with the method's own row split.
    """

    presets: str | None = None
    """Print instead, as Markdown, the defaults of a method, or of all methods of a family, that
    depend on the kind of data."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Prints the table."""
    config = parse_flags(PluginsConfig, argv)
    if config.presets is not None:
        rows = [row for plugin in chosen(config.presets) for row in presets(plugin)]
        print(markdown_table(("method", "flag", *KINDS), rows), end="")
        return {"presets": rows} if config.json else None
    rows = [row(plugin) for plugin in plugins().values()]
    print_table("methods (apps.train --plugin NAME)", COLUMNS, rows)
    return {"plugins": rows} if config.json else None


def row(plugin: type[Plugin]) -> dict[str, Any]:
    """The card of a method, and the spaces in which it runs."""
    spaces = {"spaces": "all" if plugin.spaces else "flat"}
    return {key: spaces.get(key) or getattr(plugin.card, key) for key in COLUMNS}


def chosen(name: str) -> Sequence[type[Plugin]]:
    """The method of that name, or those of the family. Raises `UserError` where there is none."""
    known = plugins()
    if name in known:
        return [known[name]]
    family = [plugin for plugin in known.values() if plugin.card.family == name]
    if not family:
        families = ", ".join(sorted({plugin.card.family for plugin in known.values()}))
        raise UserError(f"there is no method or family {name!r}; families: {families}")
    return family


def presets(plugin: type[Plugin]) -> list[dict[str, Any]]:
    """The flags of a method whose defaults differ between kinds of data; a row a flag."""
    kinds = {column: plugin.preset(kind) for column, kind in KINDS.items()}
    rows = []
    for name in (field.name for field in fields(plugin)):
        values = {column: str(getattr(flags, name)) for column, flags in kinds.items()}
        if len(set(values.values())) > 1:
            flag = f"`--plugin.{name.replace('_', '-')}`"
            rows.append({"method": f"`{plugin.card.name}`", "flag": flag, **values})
    return rows


if __name__ == "__main__":
    launch(main)
