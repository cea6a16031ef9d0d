"""Tables over `(s, t)` as heat maps, side by side on one logarithmic colour scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.colors import LogNorm

from core.report.pictures._page import (
    INK,
    MARGIN,
    SMALL,
    TEXT,
    TITLE,
    File,
    add_axes,
    font,
    new_page,
    save,
    write,
    write_title,
)

_SIDE, _LEFT, _GAP, _HEAD, _BELOW, _BAR = 260, 56, 60, 26, 52, 14
_COLUMNS = 3


def heat_maps(
    tables: Mapping[str, Float[np.ndarray, "nodes nodes"]],
    units: Sequence[float],
    path: File,
    title: str | None = None,
    unit: str = "",
) -> Path:
    """Draws each table with `s` to the right and `t` upwards, both in unit time; nan is white.

    `units` are the times of the nodes, decreasing. Red is large, blue small, on a scale that all
    share and that `unit` names. Returns the path.
    """
    values = np.concatenate([table[np.isfinite(table)] for table in tables.values()])
    high = float(values.max()) if len(values) else 1.0
    high = high if high > 0 else 1.0
    low = max(float(values[values > 0].min()) if (values > 0).any() else high / 10, high * 1e-4)
    low = min(low, high / 10)
    norm = LogNorm(low, high)
    cols, rows = min(len(tables), _COLUMNS), -(-len(tables) // _COLUMNS)
    top = MARGIN + (TITLE + 14 if title else 0)
    width = _LEFT + cols * (_SIDE + _GAP) + 60
    figure = new_page(width, top + rows * (_HEAD + _SIDE + _BELOW))
    write_title(figure, title, _LEFT)
    edges = _edges(np.asarray(units)[::-1])
    mesh = None
    for index, (name, table) in enumerate(tables.items()):
        row, column = divmod(index, cols)
        x = _LEFT + column * (_SIDE + _GAP)
        y = top + row * (_HEAD + _SIDE + _BELOW) + _HEAD
        ax = add_axes(figure, x, y, _SIDE, _SIDE)
        shown = np.ma.masked_invalid(np.maximum(table[::-1, ::-1].T, low))
        mesh = ax.pcolormesh(edges, edges, shown, norm=norm, cmap="turbo")
        ax.set(xlim=(0, 1), ylim=(0, 1))
        ax.set_xlabel("s", fontproperties=font(SMALL), color=INK)
        ax.set_ylabel("t", fontproperties=font(SMALL), color=INK)
        write(figure, name, x + _SIDE / 2, y - 8, TEXT, "center", "baseline")
    bar = add_axes(figure, _LEFT + cols * (_SIDE + _GAP) - 30, top + _HEAD, _BAR, _SIDE)
    if mesh is not None:
        figure.colorbar(mesh, cax=bar)
    write(figure, unit, width - 46, top + _HEAD - 8, SMALL, "center", "baseline")
    return save(figure, path)


def _edges(nodes: Float[np.ndarray, " nodes"]) -> Float[np.ndarray, " edges"]:
    """Between neighbours, and half a cell beyond the ends, inside [0, 1]."""
    middle = (nodes[1:] + nodes[:-1]) / 2
    ends = 2 * nodes[0] - middle[0], 2 * nodes[-1] - middle[-1]
    return np.clip(np.concatenate([[ends[0]], middle, [ends[1]]]), 0, 1)
