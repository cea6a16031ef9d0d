"""The tables on the documentation's pages, from the code and docs/results: `benchmarks.tables`."""

import json
import re
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from apps import plugins as printed
from apps._main import launch
from benchmarks import overview
from benchmarks._gallery import gallery
from benchmarks.overview import family_page, origin
from core.errors import UserError
from core.files import json_text, write_text
from core.methods.plugin import Plugin
from core.methods.registry import plugins
from core.report.compare import FLOOR, Cell, Spread, figure, markdown
from core.train.cli import parse_flags
from portolan.tables import console, markdown_table

WIDTH = 118
"""Characters in a line of text."""
RECIPES, DEFAULTS = "## Recipes", "## Defaults by kind of data"
FIGURES = re.compile(r"(<!-- figures: ([\w-]+) (\w+) -->\n\n)(?:\|.*\n)*")
"""Where a page has the means of a comparison by a metric: `<!-- figures: recipes-digits w2 -->`."""
GALLERY = re.compile(r"(<!-- pictures of methods -->\n\n)(?:\|.*\n)*")
"""Where the gallery has its table."""


@dataclass(frozen=True)
class TablesConfig:
    """Writes the tables on the documentation's pages that follow from something else: recipes and
    defaults of methods on the pages of their families, from the code; comparisons, the overview and
    the gallery, from the JSON files in docs/results. A second call changes nothing."""

    docs: str = "docs"
    """The folder of the documentation. The overview's figures are those of this checkout."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Writes the pages that differ, and names them."""
    config = parse_flags(TablesConfig, argv)
    docs = Path(config.docs)
    if not (docs / "results").is_dir():
        raise UserError(f"{docs} has no results; run this in a checkout, or give --docs DIR")
    changed = [str(path) for path, text in pages(docs) if _write(path, text)]
    console.print("\n".join(f"wrote {path}" for path in changed) or "all tables are up to date")
    return {"changed": changed} if config.json else None


def pages(docs: Path) -> Iterator[tuple[Path, str]]:
    """The pages that have such tables, with their texts as they should be."""
    for family in sorted({plugin.card.family for plugin in plugins().values()}):
        path = docs / "methods" / family_page(family)
        yield path, with_family(path.read_text("utf-8"), family)
    for path in sorted((docs / "results").glob("*.json")):
        if cells := _cells(path):
            yield path.with_suffix(".md"), markdown(cells)
    page = docs / "results.md"
    yield page, with_figures(page.read_text("utf-8"), docs / "results")
    rows = overview.rows()
    page = docs / "gallery.md"
    yield page, GALLERY.sub(lambda found: found[1] + gallery(rows), page.read_text("utf-8"))
    yield docs / "results" / "overview.json", json_text({"rows": rows})
    yield docs / "results" / "overview.md", overview.page(rows)


def with_family(text: str, family: str) -> str:
    """The page of a family with its recipes and its defaults by kind of data."""
    members = printed.chosen(family)
    text = _with_section(text, RECIPES, recipes(family, members))
    rows = [row for plugin in members for row in printed.presets(plugin)]
    table = markdown_table(("method", "flag", *printed.KINDS), rows)
    head, title, rest = text.partition(DEFAULTS + "\n")
    return head + title + re.sub(r"(?m)(?:^\|.*\n)+", lambda _: table, rest, count=1)


def recipes(family: str, members: Sequence[type[Plugin]]) -> str:
    """The section of a family's recipes; empty where it has none."""
    rows = [row for plugin in members for row in printed.measured(plugin)]
    papers = [row for plugin in members for row in printed.published(plugin)]
    missing = ", ".join(f"`{p.card.name}`" for p in members if not vars(p).get("recipes"))
    parts = [_about(family, rows, bool(papers))] if rows or papers else []
    parts += [markdown_table(printed.MEASURED, rows)] if rows else []
    parts += [f"Not measured on these data: {missing}.\n"] if rows and missing else []
    parts += [markdown_table(printed.PUBLISHED, papers)] if papers else []
    return "\n".join(parts)


def _about(family: str, rows: Sequence[dict[str, Any]], papers: bool) -> str:
    """What the tables of a family are, and which files the figures are from."""
    command = f"`python -m apps.plugins --recipes {shlex.quote(family)}`"
    named = sorted({row["figures"] for row in rows} - {""})
    if not named:
        return _filled(f"What papers take (`configs/train`), as {command} prints it; none was run.")
    *most, last = [f"`docs/results/{name}.json`" for name in named]
    text = (
        f"What is kept with each method, as {command} prints it: figures at 1 and 4 evaluations "
        "(W2 of points, Fréchet distance of digits on pixels) and settings of training of its own, "
        f"if it has some. The figures are from {', '.join(most)}{' and ' if most else ''}{last}, "
        "with the seeds too; [Results](../results.md) says how they came about."
    )
    return _filled(text + " Below what papers take (`configs/train`); nobody ran these." * papers)


def _filled(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def _with_section(text: str, title: str, body: str) -> str:
    """The page with this as the body of a section, which comes before the defaults where it is
    new."""
    if not body:
        return text
    section = f"{title}\n\n{body}"
    if f"\n{title}\n" in text:
        head, line, rest = text.partition(f"\n{title}\n")
        head += line[0]
        _, next_title, tail = rest.partition("\n## ")
        return head + section + next_title + tail
    head, title, tail = text.partition(DEFAULTS)
    return f"{head}{section}\n{title}{tail}" if title else f"{text.rstrip()}\n\n{section}"


def with_figures(text: str, results: Path) -> str:
    """The page with the means of comparisons at the places that are marked for them."""

    def table(found: re.Match[str]) -> str:
        mark, name, metric = found.groups()
        return mark + comparison(json.loads((results / f"{name}.json").read_text("utf-8")), metric)

    return FIGURES.sub(table, text)


def comparison(result: dict[str, Any], metric: str) -> str:
    """The means of a comparison by evaluations, with their deviations and the number of seeds."""
    kept = [each for each in result["methods"] if metric in each["quality"]]
    kept.sort(key=lambda each: origin(plugins()[each["plugin"]]))  # the best of each first
    counts = sorted({int(nfe) for each in kept for nfe in each["quality"][metric]})
    rows = []
    for each in kept:
        spreads = {nfe: Spread(**found) for nfe, found in each["quality"][metric].items()}
        about = {"from": origin(plugins()[each["plugin"]]), "seeds": len(each["seeds"])}
        figures = {str(nfe): figure(spreads.get(str(nfe))) for nfe in counts}
        rows.append({"method": f"`{each['plugin']}`", **about, **figures})
    floor = figure(Spread.of([result["reference"][metric]]))
    rows.append({"method": FLOOR, **{str(nfe): floor for nfe in counts}})
    return markdown_table(("method", "from", "seeds", *map(str, counts)), rows)


def _cells(path: Path) -> list[Cell]:
    """The cells of a comparison's file; none of another file."""
    found = json.loads(path.read_text("utf-8"))
    cells = found.get("cells", []) if isinstance(found, dict) else []
    return [Cell(**{item.name: each[item.name] for item in fields(Cell)}) for each in cells]


def _write(path: Path, text: str) -> bool:
    """Whether the file was another one before."""
    if path.exists() and path.read_text("utf-8") == text:
        return False
    write_text(path, text)
    return True


if __name__ == "__main__":
    launch(main)
