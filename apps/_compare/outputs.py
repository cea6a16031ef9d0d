"""Table, plots and pages of samples, from all finished cells of a comparison."""

import datetime
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apps._compare.files import EXAMPLES
from apps._compare.kept import kept_cells
from core.errors import UserError
from core.files import write_json, write_text
from core.report import pictures
from core.report.compare import Cell, Summary, as_json, markdown, metrics_of, summarise
from core.report.compare.report import FLOOR, LABELS
from core.report.pictures import Curve, Spot
from core.report.strings import one_line
from core.report.versions import versions
from portolan.tables import console, print_table

_COST_AT = (1, 4)


def write_outputs(out: Path) -> dict[str, Any]:
    """Writes table.md, results.json and the pictures, and returns the result for --json.

    Raises `UserError` where the folder holds no finished run, or cannot be written.
    """
    cells = kept_cells(out)
    if not cells:
        raise UserError(f"{out} holds no finished run of a comparison; name another --out")
    summaries = summarise(cells)
    result = as_json(cells)
    head = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "apps.compare", *sys.argv[1:]]),
        "versions": versions(),
    }
    try:
        write_text(out / "table.md", markdown(cells))
        write_json(out / "results.json", {**head, **result})
        _draw(cells, summaries, out)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    _print(cells, summaries)
    console.print(f"wrote {out}/table.md, results.json and pictures")
    return {"out": str(out), "reference": result["reference"], "methods": result["methods"]}


def _print(cells: Sequence[Cell], summaries: Sequence[Summary]) -> None:
    name = metrics_of(cells)[0]
    counts = sorted(summaries[0].quality[name])
    rows: list[dict[str, Any]] = []
    for summary in summaries:
        spreads = {nfe: summary.at(name, nfe) for nfe in counts}
        figures = {f"at {k}": s.mean for k, s in spreads.items() if s is not None}
        about = {"seeds": len(summary.seeds), "steps": summary.steps, "flops": summary.flops}
        rows.append({"method": summary.plugin, **figures, **about})
    floor = {f"at {nfe}": cells[0].reference.get(name) for nfe in counts}
    rows.append({"method": FLOOR, **floor})
    columns = ("method", *floor, "seeds", "steps", "flops")
    print_table(f"{LABELS[name]} ({name}) at 1, 2, ... evaluations", columns, rows)


def _draw(cells: Sequence[Cell], summaries: Sequence[Summary], out: Path) -> None:
    names = [name for name in metrics_of(cells) if name != "accuracy"]
    panels = {LABELS[name]: [_curve(s, name) for s in summaries] for name in names}
    floors = {
        LABELS[name]: cells[0].reference[name] for name in names if name in cells[0].reference
    }
    data = cells[0].config["data"]["name"]
    pictures.quality_plot(panels, out / "quality.png", floors, f"{data}: quality and evaluations")
    costs = {
        f"at {nfe} evaluation{'s' if nfe > 1 else ''}": spots
        for nfe in _COST_AT
        if (spots := _spots(summaries, names[0], nfe))
    }
    if costs:
        pictures.cost_plot(
            costs, out / "cost.png", LABELS[names[0]], f"{data}: quality and cost of training"
        )
    _pages(cells, summaries, out)


def _curve(summary: Summary, name: str) -> Curve:
    by_nfe = summary.quality.get(name, {})
    return Curve(
        summary.plugin,
        summary.family,
        list(by_nfe),
        [spread.mean for spread in by_nfe.values()],
        [spread.std or 0.0 for spread in by_nfe.values()],
    )


def _spots(summaries: Sequence[Summary], name: str, nfe: int) -> list[Spot]:
    return [
        Spot(summary.plugin, summary.family, summary.all_flops, spread.mean, spread.std or 0.0)
        for summary in summaries
        if (spread := summary.at(name, nfe)) is not None and summary.all_flops is not None
    ]


def _pages(cells: Sequence[Cell], summaries: Sequence[Summary], out: Path) -> None:
    """One page for each number of evaluations: real data, then every method from one noise."""
    first = {cell.plugin: cell for cell in reversed(cells)}
    folders = {name: out / f"{name}-{cell.seed}" for name, cell in first.items()}
    # A cell may have come without its samples: it is in the table, not on the pages.
    there = {name: each for name, each in folders.items() if (each / EXAMPLES).exists()}
    kept = {name: _examples(folder) for name, folder in there.items()}
    if not kept:
        return
    data = next(iter(kept.values()))["data"]
    for nfe in sorted({count for cell in cells for count in cell.nfe}):
        key = f"nfe_{nfe}"
        methods = {
            s.plugin: kept[s.plugin][key] for s in summaries if key in kept.get(s.plugin, {})
        }
        if not methods:
            continue
        title = f"{cells[0].config['data']['name']}: {nfe} evaluation{'s' if nfe > 1 else ''}"
        path, shown = out / f"samples_{nfe}.png", {"data": data, **methods}
        if cells[0].kind == "tokens":
            write_text(path.with_suffix(".txt"), strings_page(title, shown))
            continue
        if cells[0].kind == "points":
            many = len(shown) > 8
            columns, side = (6, 210) if many else (4, 300)
            pictures.points_plot(shown, path, title=title, columns=columns, side=side)
        else:
            rows = np.concatenate(list(shown.values()))
            pictures.image_grid(
                rows, len(shown), len(data), path, row_titles=list(shown), title=title
            )


def strings_page(title: str, shown: Mapping[str, np.ndarray]) -> str:
    """Strings below each other, those of each method under its name."""
    parts = [f"# {title}"]
    for name, texts in shown.items():
        parts += ["", f"## {name}", *(one_line(str(text)) for text in texts)]
    return "\n".join(parts) + "\n"


def _examples(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / EXAMPLES, allow_pickle=False) as values:
        return {name: values[name] for name in values.files}
