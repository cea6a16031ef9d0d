"""All methods beside each other, from docs/results: `python -m benchmarks.overview`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps._main import launch
from core.methods.plugin import Plugin
from core.methods.recipes import Recipe
from core.methods.registry import plugins
from core.train.cli import parse_flags
from portolan.tables import markdown, print_table, save

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
NFES = (1, 4, 16)
TITLE = "Methods by evaluations: exact W2 on checkerboard, Frechet distance on digits"
METRICS = {"points": "w2", "small-image": "frechet"}
"""What the table has of each kind of data."""


@dataclass(frozen=True)
class OverviewConfig:
    """A row for each method of pictures and points: its figures on checkerboard (exact W2) and on
    digits (Frechet distance of pixels) by evaluations, from the files that its recipes name.

    Methods that nobody has measured are listed too, with empty cells.
    """

    table: str = "docs/results/overview.json"
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Reads, prints and writes."""
    config = parse_flags(OverviewConfig, argv)
    found = rows()
    print_table(TITLE, columns(found), found)
    save(config.table, {"rows": found}, page(found))
    return {"rows": found} if config.json else None


def rows() -> list[dict[str, Any]]:
    """A row a method, the best first."""
    found = [row(name, plugin) for name, plugin in listed().items()]
    return sorted(found, key=lambda each: (each["from"], *_places(each)))


def columns(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What some row has."""
    return list(dict.fromkeys(key for each in rows for key in each))


def page(rows: Sequence[dict[str, Any]]) -> str:
    """The table as Markdown."""
    return markdown(TITLE, columns(rows), rows)


def listed() -> dict[str, type[Plugin]]:
    """The methods of pictures and points. Those of texts and those that train a reward in are
    measured by other figures."""
    every = plugins().items()
    return {name: p for name, p in every if not p.tokens and p.card.family != "tilting"}


def origin(plugin: type[Plugin]) -> str:
    """What training begins with: "data" alone, a "teacher", or a "map" that is trained already."""
    if plugin.tunes:
        return "map"
    return "teacher" if plugin.needs_teacher else "data"


def row(name: str, plugin: type[Plugin]) -> dict[str, Any]:
    """What is known of a method."""
    found: dict[str, Any] = {"method": name, "from": origin(plugin)}
    for each in plugin.recipes:
        if each.source:
            found |= figures(name, each)
    return found


def figures(name: str, recipe: Recipe) -> dict[str, Any]:
    """The means of a method on the data of a recipe, and over how many seeds."""
    methods = json.loads((RESULTS / f"{recipe.source}.json").read_text())["methods"]
    method = next(each for each in methods if each["plugin"] == name)
    known = method["quality"][METRICS[recipe.kind]]
    means = {f"{recipe.data}, {n}": known[str(n)]["mean"] for n in NFES if str(n) in known}
    return means | {f"{recipe.data}, seeds": len(method["seeds"])}


def _places(row: dict[str, Any]) -> tuple[float, float]:
    """By digits in one evaluation, then by checkerboard; what is not known comes last."""
    unknown = float("inf")
    return row.get("digits, 1", unknown), row.get("checkerboard, 1", unknown)


if __name__ == "__main__":
    launch(main)
