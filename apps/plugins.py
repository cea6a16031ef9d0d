"""Lists the registered methods, or shows some of them: `python -m apps.plugins lsd`."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from apps._main import launch
from core.errors import UserError
from core.methods.plugin import Plugin
from core.methods.registry import plugins
from core.train import toml
from core.train.cli import parse_flags
from portolan.tables import console, markdown_table, print_table

COLUMNS = (
    "name", "kind", "family", "rule", "supervision", "parameterisation", "gradient", "targets",
    "spaces", "cost", "source",
)  # fmt: skip
KINDS = {"points": "points", "small images": "small-image", "images": "image"}
"""The columns of a table of defaults, and what the recipes call these kinds of data."""
MEASURED = ("method", "data", "steps", "1", "4", "settings", "figures")
"""The columns of a table of recipes: figures at 1 and 4 evaluations, settings of its own."""
PUBLISHED = ("method", "network", "batch", "steps", "optimiser", "average", "file")
"""The columns of a table of published recipes."""
PAPERS = Path(__file__).parents[1] / "configs" / "train"
"""Recipes as published, which a checkout has and an installed package has not."""


@dataclass(frozen=True)
class PluginsConfig:
    """Lists the registered methods: rule, supervision, parameterisation, cost and source.

    gradient: what of the map carries the gradient of the loss; all else in it is a number. targets:
    whose parameters these numbers depend on. spaces: whether it runs on spheres, tori and rotations
    too, or in flat space alone. The cost is that of one training example in forward
    passes, with the method's own row split. With NAMES their recipes and the published ones.
    """

    names: tyro.conf.Positional[tuple[str, ...]] = ()
    """Methods or families whose recipes are shown: the settings, the figures that were measured so
    (W2 of points, Fréchet distance of images), and what the papers take."""
    presets: str | None = None
    """Print instead, as Markdown, the defaults of a method, or of all methods of a family, that
    depend on the kind of data."""
    recipes: str | None = None
    """Print instead, as Markdown, the recipes of a method, or of all methods of a family."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Prints the table."""
    config = parse_flags(PluginsConfig, argv)
    if config.presets is not None:
        rows = [row for plugin in chosen(config.presets) for row in presets(plugin)]
        print(markdown_table(("method", "flag", *KINDS), rows), end="")
        return {"presets": rows} if config.json else None
    if config.recipes is not None or config.names:
        return recipes(config.names or (str(config.recipes),), config)
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


def recipes(names: Sequence[str], config: PluginsConfig) -> dict[str, Any] | None:
    """Prints the recipes of methods or families, and what their papers take."""
    asked = [plugin for name in names for plugin in chosen(name)]
    rows = [found for plugin in asked for found in measured(plugin)]
    papers = [found for plugin in asked for found in published(plugin)]
    missing = ", ".join(f"`{p.card.name}`" for p in asked if not vars(p).get("recipes"))
    if config.recipes is not None:
        print(markdown_table(MEASURED, rows) if rows else "", end="")
        print(f"\nNot measured on these data: {missing}." if rows and missing else "")
        between = "\n" if rows else ""
        print(between + markdown_table(PUBLISHED, papers) if papers else "", end="")
    else:
        show("recipes: figures at 1 and 4 evaluations", MEASURED, rows)
        show("as published, not run by us (configs/train)", PUBLISHED, papers)
        console.print(f"not measured: {missing.replace('`', '')}" if missing else "")
    return {"recipes": rows, "published": papers} if config.json else None


def show(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Prints a table for people, where it has rows."""
    plain = [{key: value.replace("`", "") for key, value in row.items()} for row in rows]
    if plain:
        print_table(title, columns, plain)


def measured(plugin: type[Plugin]) -> list[dict[str, Any]]:
    """The recipes of a method; a row a kind of data."""
    return [
        {
            "method": f"`{plugin.card.name}`", "data": each.data, "steps": f"{each.steps:,}",
            "1": _figure(each.one), "4": _figure(each.four),
            "settings": " ".join(f"`--{k} {v}`" for k, v in each.flags.items()) or "those of all",
            "figures": each.source,
        }
        for each in vars(plugin).get("recipes", ())
    ]  # fmt: skip


def _figure(value: float | None) -> str:
    """Three digits, as the recipes have them."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def published(plugin: type[Plugin]) -> list[dict[str, Any]]:
    """What the recipes as published say of a method; a row a file."""
    return [
        _published(name, tree)
        for name, tree in _papers()
        if toml.selected(tree, "plugin") == plugin.card.name
    ]


@functools.cache
def _papers() -> list[tuple[str, dict[str, Any]]]:
    return [(path.name, toml.read(path)) for path in sorted(PAPERS.glob("*.toml"))]


def _published(file: str, tree: dict[str, Any]) -> dict[str, Any]:
    optim = tree.get("optim", {})
    said = [str(optim[key]) for key in ("name", "rate", "schedule") if key in optim]
    said += [f"b2 {optim['b2']}"] if "b2" in optim else []
    steps = tree.get("steps")
    return {
        "method": f"`{tree['plugin']['name']}`", "network": tree["net"]["name"],
        "batch": str(tree.get("batch", "")), "steps": f"{steps:,}" if steps else "",
        "optimiser": ", ".join(said), "average": str(tree.get("ema", "")), "file": f"`{file}`",
    }  # fmt: skip


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
