"""Angles: densities on the circle and on the torus, of more angles pair by pair."""

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from core.report.pictures._axes import COLORS, shading
from core.report.pictures._page import (
    MARGIN,
    SMALL,
    TEXT,
    TITLE,
    File,
    add_axes,
    new_page,
    save,
    text_height,
    wrap,
    write,
    write_title,
)

Panels = Mapping[str, Shaped[np.ndarray, "_ dim"]]

BINS = 90
"""Cells along an edge: 4 degrees each."""
SMOOTH = 1.0
"""Cells: the standard deviation of the kernel by which counts are smoothed."""
MOST_PAIRS = 6
"""All pairs of angles are drawn where there are no more; else those that follow each other."""
_LEFT, _SIDE, _STEP = 46, 230, 272
_TICKS = (-180, -90, 0, 90, 180)


def torus_plot(panels: Panels, path: File, title: str | None = None) -> Path:
    """Draws sets of angles `(n, d)` in radians: of two angles one Ramachandran plot a panel, side
    by side; of more a row a panel, with the pairs of angles; of one the densities on one axis.

    Axes are in degrees. Shading is the square root of the density, on one scale for all panels of a
    pair, which ends at the 99.5th percentile of the filled cells of the first. Returns the path.
    **Raises:** `ValueError` if there are no panels, or one is not `(n, d)` with the same `d`.
    """
    dims = {np.shape(x)[1] if np.ndim(x) == 2 else 0 for x in panels.values()}
    if len(dims) != 1 or 0 in dims:
        raise ValueError("expected at least one panel, and angles of shape (n, d) in each")
    (dim,) = dims
    if dim == 1:
        return _curves(panels, path, title)
    pairs = pairs_of(dim)
    if dim == 2:
        places = [(name, pairs[0], (0, k)) for k, name in enumerate(panels)]
    else:
        places = [
            (name, pair, (row, column))
            for row, name in enumerate(panels)
            for column, pair in enumerate(pairs)
        ]
    first = next(iter(panels.values()))
    scales = {pair: _brightest(density_on_torus(first[:, pair])) for pair in pairs}
    columns = 1 + max(column for _, _, (_, column) in places)
    rows = 1 + max(row for _, _, (row, _) in places)
    names = {name: wrap(name, TEXT, _SIDE) for name in panels}
    top = MARGIN + (TITLE + 14 if title else 0)
    head = max(text_height(name, TEXT) for name in names.values()) + 8
    step = head + _SIDE + 34
    figure = new_page(_LEFT + columns * _STEP, top + rows * step)
    write_title(figure, title, _LEFT)
    for name, pair, (row, column) in places:
        x, y = _LEFT + column * _STEP, top + row * step + head
        ax = add_axes(figure, x, y, _SIDE, _SIDE)
        ax.imshow(
            density_on_torus(panels[name][:, pair]).T, extent=(-180, 180, -180, 180),
            origin="lower", norm=shading(scales[pair]), cmap="magma", interpolation="bilinear",
        )  # fmt: skip
        ax.set(xticks=_TICKS, yticks=_TICKS)
        ax.tick_params(labelleft=column == 0)
        if dim == 2 or column == 0:
            write(figure, names[name], x, y - 9, TEXT, "left", "baseline")
        if dim > 2:
            label = f"angles {pair[0] + 1}, {pair[1] + 1}"
            write(figure, label, x + _SIDE, y - 7, SMALL, "right", "baseline")
    return save(figure, path)


def pairs_of(dim: int) -> list[tuple[int, int]]:
    """The pairs of angles that are drawn."""
    every = list(itertools.combinations(range(dim), 2))
    return every if len(every) <= MOST_PAIRS else [(k, k + 1) for k in range(dim - 1)]


def density_on_torus(
    x: Float[np.ndarray, "n 2"], bins: int = BINS, smooth: float = SMOOTH
) -> Float[np.ndarray, "bins bins"]:
    """Probabilities of cells, smoothed across the glued edges; they sum to 1."""
    from scipy.ndimage import gaussian_filter

    x = np.asarray(x, np.float64)
    x = (x[np.isfinite(x).all(axis=1)] + np.pi) % (2 * np.pi) - np.pi
    counts = np.histogram2d(*x.T, bins=bins, range=((-np.pi, np.pi),) * 2)[0]
    return gaussian_filter(counts, smooth, mode="wrap") / max(len(x), 1)


def _brightest(density: np.ndarray) -> float:
    filled = density[density > 0]
    return float(np.percentile(filled, 99.5)) if filled.size else 1.0


def _curves(panels: Panels, path: File, title: str | None) -> Path:
    wide, high = 480, 260
    top = MARGIN + (TITLE + 14 if title else 0)
    figure = new_page(wide + 2 * _LEFT, top + high + 40)
    write_title(figure, title, _LEFT)
    ax = add_axes(figure, _LEFT, top, wide, high)
    edges = np.linspace(-180, 180, BINS + 1)
    for colour, (name, x) in zip(itertools.cycle(COLORS), panels.items()):
        degrees = (np.degrees(x[:, 0]) + 180) % 360 - 180
        ax.hist(
            degrees,
            edges.tolist(),
            density=True,
            histtype="step",
            color=colour,
            label=name,
            linewidth=1.2,
        )
    ax.set(xticks=_TICKS, xlim=(-180, 180))
    ax.tick_params(left=False, labelleft=False)
    ax.legend(frameon=False, fontsize=9)
    return save(figure, path)
