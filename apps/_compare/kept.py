"""The finished cells of a comparison, with the defaults of settings that are younger than they."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from core.report.compare.cell import Cell, cells_in, read_cell
from core.train import toml
from core.train.run import completed


def kept_cell(folder: Path) -> Cell | None:
    """The cell of a folder, or None where it has not finished. Raises `UserError` if damaged."""
    cell = read_cell(folder)
    return None if cell is None else _as_now(cell)


def kept_cells(out: Path) -> list[Cell]:
    """All finished cells under a comparison's folder."""
    return [_as_now(cell) for cell in cells_in(out)]


def _as_now(cell: Cell) -> Cell:
    config = toml.shaping(completed(cell.config))
    return replace(cell, config=config, shared=_shared(cell.shared))


def _shared(tree: dict[str, Any]) -> dict[str, Any]:
    """What all cells share: sections that it has not are each cell's own."""
    return {key: value for key, value in completed(tree).items() if key in tree}
