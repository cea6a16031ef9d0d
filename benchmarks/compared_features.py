"""Runs of a comparison in a network's features: `python -m benchmarks.compared_features`."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from apps._main import launch
from benchmarks._in_features import in_features
from core.errors import UserError
from core.report.compare.cell import Cell, cells_in
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.progress import Meter
from portolan.tables import markdown, print_table, save


@dataclass(frozen=True)
class FeaturesConfig:
    """Fréchet distances of the runs of `apps.compare` in the features of a trained network.

    A comparison measures pixels where pictures are small, and pixels do not see what people see.
    Every run that is finished is measured once by `apps.eval`, and keeps the file.
    """

    folder: str = "runs/compare-digits"
    """The comparison, its --out."""
    features: str = "efficientnet-lite0"
    """Features as in `apps.eval --features`."""
    nfe: tuple[int, ...] = (1, 4)
    """Numbers of evaluations, of those that a method serves."""
    plugins: tuple[str, ...] = ()
    """Methods or variants; none: all that are there."""
    n: int = 0
    """Samples a figure; 0: as many as `apps.eval` takes."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures what is missing and prints the table. Raises `UserError` without a run."""
    config = parse_flags(FeaturesConfig, argv)
    cells = [c for c in cells_in(Path(config.folder)) if c.plugin in (config.plugins or [c.plugin])]
    if not cells:
        raise UserError(f"no finished run of {config.plugins or 'a method'} in {config.folder}")
    found: dict[str, list[dict[str, Any]]] = {}
    with Meter("runs", len(cells)) as meter:
        for done, cell in enumerate(cells):
            meter.to(done, cell.plugin)
            found.setdefault(cell.plugin, []).append(measured(config, cell))
    ranked = sorted(found.items(), key=lambda item: _first(item[1], config.nfe[0]))
    rows = [row(name, runs, config.nfe) for name, runs in ranked]
    floor = next(iter(found.values()))[0]["floor"]
    if floor is not None:
        rows.append({"method": "real against real", _column(config.nfe[0]): _figure([floor])})
    title = f"Fréchet distance in {config.features}, by evaluations"
    print_table(title, list(rows[0]), rows)
    result = {"versions": versions(), "features": config.features, "rows": rows, "runs": found}
    if config.table:
        save(config.table, result, markdown(title, list(rows[0]), rows))
    return result if config.json else None


def measured(config: FeaturesConfig, cell: Cell) -> dict[str, Any]:
    """The distances of one run by evaluations, and that of real data, if there are enough."""
    counts = sorted({int(each["nfe"]) for each in cell.rows} & set(config.nfe))
    run = Path(config.folder) / f"{cell.plugin}-{cell.seed}"
    found = in_features(config.features, run, counts, config.n)
    quality = {int(each["nfe"]): float(each["frechet"]) for each in found["rows"]}
    return {"seed": cell.seed, "floor": found["reference"].get("frechet"), "frechet": quality}


def row(name: str, runs: list[dict[str, Any]], nfe: tuple[int, ...]) -> dict[str, Any]:
    """The mean over seeds, and its standard deviation."""
    cells = {_column(n): _figure([run["frechet"].get(n) for run in runs]) for n in nfe}
    return {"method": name, **cells, "seeds": len(runs)}


def _first(runs: list[dict[str, Any]], n: int) -> float:
    """The mean at `n` evaluations, by which methods are ranked; those without come last."""
    known = [run["frechet"][n] for run in runs if n in run["frechet"]]
    return mean(known) if known else float("inf")


def _column(n: int) -> str:
    return f"FD ({n})"


def _figure(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    spread = f" ± {stdev(known):.2f}" if len(known) > 1 else ""
    return f"{mean(known):.2f}{spread}"


if __name__ == "__main__":
    launch(main)
