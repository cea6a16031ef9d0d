"""Sets of points in the plane, side by side in equal axes: as dots or as densities."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    text_height,
    wrap,
    write,
    write_title,
)

Panels = Mapping[str, Shaped[np.ndarray, "_ 2"]]
Limits = tuple[int | float, int | float]

_COLOR = "#0072b2"
_LEFT = 54


def points_plot(
    panels: Panels,
    path: File,
    limits: Limits | None = None,
    title: str | None = None,
    *,
    columns: int = 4,
    side: int = 300,
) -> Path:
    """Draws each set of points `(n, 2)` in a panel of its own, all with the same square axes.

    There are `columns` panels in a row, each `side` pixels wide.

    `limits` holds for both axes; by default it fits the points of the first panel. Each panel says
    how many points lie outside. Dots are smaller and fainter the more points the largest panel has;
    above some ten thousand `density_plot` says more. Returns the path.

    **Raises:** `ValueError` if there are no panels or one is not `(n, 2)`.
    """
    limits = _check(panels, limits)
    figure, axes = _panels(panels, limits, title, columns, side)
    many = max(1, *(len(points) for points in panels.values()))
    area = np.clip(15_000 / many, 2, 12) * (side / 300) ** 2
    for ax, points in zip(axes, panels.values()):
        ax.scatter(
            points[:, 0], points[:, 1], s=area, c=_COLOR,
            alpha=np.clip(2000 / many, 0.25, 0.7), linewidths=0,
        )  # fmt: skip
        _note_outside(ax, points, limits)
    return save(figure, path)


def density_plot(
    panels: Panels,
    path: File,
    limits: Limits | None = None,
    title: str | None = None,
    bins: int = 75,
) -> Path:
    """As `points_plot`, with histograms of `bins` by `bins` cells on one common colour scale.

    The scale ends at the 99th percentile of the cells of the first panel that are not empty.
    """
    limits = _check(panels, limits)
    figure, axes = _panels(panels, limits, title, 4, 300)
    densities = [_density(points, limits, bins) for points in panels.values()]
    filled = densities[0][densities[0] > 0]
    brightest = np.percentile(filled, 99) if filled.size else 1.0
    for ax, points, density in zip(axes, panels.values(), densities):
        ax.imshow(
            density.T, extent=(*limits, *limits), origin="lower", vmin=0, vmax=brightest,
            cmap="magma", interpolation="nearest",
        )  # fmt: skip
        _note_outside(ax, points, limits)
    return save(figure, path)


def _check(panels: Panels, limits: Limits | None) -> Limits:
    if not panels or any(np.ndim(p) != 2 or np.shape(p)[1] != 2 for p in panels.values()):
        raise ValueError("expected at least one panel, and points of shape (n, 2) in each")
    if limits is not None:
        return limits
    points = next(iter(panels.values()))
    finite = points[np.isfinite(points).all(axis=1)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (-1.0, 1.0)
    pad = 0.06 * (high - low) or 1.0
    return low - pad, high + pad


def _panels(
    panels: Panels, limits: Limits, title: str | None, columns: int, side: int
) -> tuple[Figure, list[Axes]]:
    """Square axes side by side, some in a row, with one tick scale at the outer edges."""
    cols = min(len(panels), columns)
    rows = -(-len(panels) // cols)
    names = [wrap(name, TEXT, side) for name in panels]
    top = MARGIN + (TITLE + 14 if title else 0)
    head = max(text_height(name, TEXT) for name in names) + 8
    step_right, step_down = side + 20, head + side + 14
    figure = new_page(_LEFT + cols * step_right, top + rows * step_down + 24)
    write_title(figure, title, _LEFT)
    axes = []
    for index, name in enumerate(names):
        row, column = divmod(index, cols)
        x, y = _LEFT + column * step_right, top + row * step_down + head
        ax = add_axes(figure, x, y, side, side)
        ax.set(xlim=limits, ylim=limits)
        ax.tick_params(labelleft=column == 0, labelbottom=index + cols >= len(panels))
        write(figure, name, x + side / 2, y - 9, TEXT, "center", "baseline")
        axes.append(ax)
    return figure, axes


def _note_outside(ax: Axes, points: np.ndarray, limits: Limits) -> None:
    inside = ((points >= limits[0]) & (points <= limits[1])).all(axis=1)
    outside = len(points) - int(inside.sum())
    if outside:
        ax.text(
            0.98, 0.02, f"{outside} of {len(points)} outside", transform=ax.transAxes,
            ha="right", va="bottom", fontproperties=font(SMALL), color=INK, zorder=5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.5},
        )  # fmt: skip


def _density(points: np.ndarray, limits: Limits, bins: int) -> Float[np.ndarray, "bins bins"]:
    finite = points[np.isfinite(points).all(axis=1)]
    counts = np.histogram2d(finite[:, 0], finite[:, 1], bins=bins, range=(limits, limits))[0]
    return counts / max(len(points), 1)
