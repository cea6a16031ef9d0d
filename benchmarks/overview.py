"""All methods beside each other, from docs/results: `python -m benchmarks.overview`."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps._main import launch
from core.methods.plugin import Plugin
from core.methods.recipes import Recipe
from core.methods.registry import plugins
from core.report import pictures
from core.report.pictures import Spot
from core.train.cli import parse_flags
from portolan.tables import console, markdown, print_table, save

RESULTS = Path(__file__).resolve().parent.parent / "docs" / "results"
NFES = (1, 4, 16)
TITLE = "Methods by evaluations: exact W2 on checkerboard, Frechet distance on digits"
LABELS = {"digits": "Fréchet distance of pixels", "checkerboard": "exact W2"}
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
    pictures: str = ""
    """Folder in which to draw quality in one and in four evaluations against the operations of
    training: overview-digits-1.png and three more."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Reads, prints and writes."""
    config = parse_flags(OverviewConfig, argv)
    found = rows()
    print_table(TITLE, columns(found), found)
    save(config.table, {"rows": found}, page(found))
    for data, nfe in itertools.product(LABELS, (1, 4) if config.pictures else ()):
        console.print(f"wrote {draw(data, nfe, config.pictures)}")
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


def family_page(family: str) -> str:
    """The file of a family's page, in docs/methods."""
    return f"{family.lower().replace(' ', '_')}.md"


def row(name: str, plugin: type[Plugin]) -> dict[str, Any]:
    """What is known of a method."""
    found: dict[str, Any] = {"method": name, "from": origin(plugin)}
    for each in plugin.recipes:
        if each.source:
            found |= figures(name, each)
    return found


def measured(name: str, recipe: Recipe) -> dict[str, Any]:
    """What the file that a recipe names has of a method."""
    methods = json.loads((RESULTS / f"{recipe.source}.json").read_text())["methods"]
    return next(each for each in methods if each["plugin"] == name)


def figures(name: str, recipe: Recipe) -> dict[str, Any]:
    """The means of a method on the data of a recipe, and over how many seeds."""
    method = measured(name, recipe)
    known = method["quality"][METRICS[recipe.kind]]
    means = {f"{recipe.data}, {n}": known[str(n)]["mean"] for n in NFES if str(n) in known}
    return means | {f"{recipe.data}, seeds": len(method["seeds"])}


def draw(data: str, nfe: int, folder: str) -> Path:
    """Quality against the operations of training, methods from data and those with a teacher apart.
    What trains a finished map further has no place here."""
    panels = {
        f"from {'a ' * (o == 'teacher')}{o}": spots(data, o, nfe) for o in ("data", "teacher")
    }
    title = f"{data}: {nfe} evaluation{'s' * (nfe > 1)}"
    path = Path(folder) / f"overview-{data}-{nfe}.png"
    return pictures.cost_plot(panels, path, LABELS[data], title)


def spots(data: str, wanted: str, nfe: int) -> list[Spot]:
    """The methods of an origin on a data set, the operations of their teachers included."""
    found = []
    for name, plugin in listed().items():
        recipes = [each for each in plugin.recipes if each.source and each.data == data]
        if origin(plugin) == wanted and recipes:
            method = measured(name, recipes[0])
            known = method["quality"][METRICS[recipes[0].kind]].get(str(nfe))
            parts = [method["flops"], (method["teacher"] or {"flops": 0.0})["flops"]]
            if known is not None and None not in parts:
                spread = known["std"] or 0.0
                found.append(Spot(name, plugin.card.family, sum(parts), known["mean"], spread))
    return found


def _places(row: dict[str, Any]) -> tuple[float, float]:
    """By digits in one evaluation, then by checkerboard; what is not known comes last."""
    unknown = float("inf")
    return row.get("digits, 1", unknown), row.get("checkerboard, 1", unknown)


if __name__ == "__main__":
    launch(main)
