"""Methods side by side: quality against evaluations, and against the cost of training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, NullLocator

from core.report.pictures._axes import COLORS, apart, label_axes, log_x
from core.report.pictures._labels import Rectangle, is_close, place
from core.report.pictures._page import (
    INK,
    MARGIN,
    SMALL,
    TEXT,
    File,
    add_axes,
    font,
    new_page,
    save,
    text_width,
    write,
    write_title,
)

Style = Literal["-", "--", "-.", ":"] | tuple[float, Sequence[float]]

_MORE_COLORS = (*COLORS, "#882255", "#999933", "#332288", "#a6761d", "#66a61e")
_MARKERS = ("o", "s", "^", "D", "v", "p", "<", ">")
_STYLES: tuple[Style, ...] = ("-", "--", "-.", ":")
_DASHES: Style = (0.0, (5.0, 4.0))
_WIDTH, _HEIGHT = 500, 420
_LEFT, _TOP, _BELOW, _BETWEEN = 78, 76, 62, 96
_LINE = 19
_FLOOR = "real against real"
_DODGE = 0.03
_LABEL = 0.11
"""Width of a label such as 1.6e12 over that of a panel."""
_ROUND = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9),
)


@dataclass(frozen=True)
class Curve:
    """A method's `y` with error bars `error` at each `x`; methods of a `family` share a colour."""

    name: str
    family: str
    x: Sequence[int | float]
    y: Sequence[int | float]
    error: Sequence[int | float]


@dataclass(frozen=True)
class Spot:
    """A method at one place `(x, y)`, with the error bar `error` in y."""

    name: str
    family: str
    x: int | float
    y: int | float
    error: int | float = 0.0


@dataclass(frozen=True)
class _Look:
    color: str
    marker: str
    style: Style


def quality_plot(
    panels: Mapping[str, Sequence[Curve]],
    path: File,
    floors: Mapping[str, float],
    title: str | None = None,
) -> Path:
    """One panel a metric, named after it: values against evaluations, on logarithmic axes.

    `floors[metric]`, if given, is a dashed line. Curves are moved apart sideways by some percent,
    so that error bars do not cover each other. The legend stands beside the panels, by family.
    Returns the path.

    **Raises:** `ValueError` if there is no panel.
    """
    _check(panels)
    looks = _looks([curve for curves in panels.values() for curve in curves])
    figure, axes, right = _page(len(panels), looks, title, bool(floors))
    for ax, (name, curves) in zip(axes, panels.items()):
        for index, curve in enumerate(curves):
            _draw_curve(ax, curve, looks[curve.name, curve.family], _shift(index, len(curves)))
        if name in floors and floors[name] > 0:
            ax.axhline(floors[name], color=INK, linewidth=1.2, linestyle=_DASHES, zorder=1)
        log_x(ax, np.concatenate([np.asarray(curve.x, np.float64) for curve in curves]))
        _log_y(ax)
        label_axes(ax, "network evaluations a sample", name)
    _legend(figure, looks, right, bool(floors))
    return save(figure, path)


def cost_plot(
    panels: Mapping[str, Sequence[Spot]], path: File, ylabel: str, title: str | None = None
) -> Path:
    """One panel a number of evaluations, named after it: quality against operations of training.

    Each method is a mark with its name beside it, in the colour of its family. A grey stair joins
    those of the `front`. Returns the path.

    **Raises:** `ValueError` if there is no panel.
    """
    _check(panels)
    looks = _looks([spot for spots in panels.values() for spot in spots])
    figure, axes, _ = _page(len(panels), {}, title, False)
    for ax, (name, spots) in zip(axes, panels.items()):
        for spot in spots:
            _mark(ax, [spot.x], [spot.y], [spot.error], looks[spot.name, spot.family], line=False)
        ax.set_xscale("log")
        _roomy(ax, spots)
        _log_y(ax)
        best = front(spots)
        xs, ys = [spot.x for spot in best], [spot.y for spot in best]
        ax.plot(xs, ys, color="#999999", linewidth=1.2, drawstyle="steps-post", zorder=1.2)
        label_axes(ax, "operations of training, the teacher's included", ylabel)
        ax.set_title(name, fontproperties=font(TEXT), color=INK, pad=10)
        _name_spots(ax, spots)
    return save(figure, path)


def front(spots: Sequence[Spot]) -> list[Spot]:
    """The Pareto front by increasing `x`: those that no other spot undercuts in `x` and in `y`."""
    found: list[Spot] = []
    for spot in sorted(spots, key=lambda spot: (spot.x, spot.y)):
        if not found or spot.y < found[-1].y:
            found.append(spot)
    return found


def _check(panels: Mapping[str, Sequence[Curve]] | Mapping[str, Sequence[Spot]]) -> None:
    if not panels or not all(panels.values()):
        raise ValueError("expected at least one panel, and something in each")


def _looks(drawn: Sequence[Curve | Spot]) -> dict[tuple[str, str], _Look]:
    """A colour a family, and within it a marker and a dash pattern a method."""
    families: dict[str, list[str]] = {}
    for item in drawn:
        members = families.setdefault(item.family, [])
        if item.name not in members:
            members.append(item.name)
    return {
        (name, family): _Look(
            _MORE_COLORS[row % len(_MORE_COLORS)],
            _MARKERS[column % len(_MARKERS)],
            _STYLES[column % len(_STYLES)],
        )
        for row, (family, members) in enumerate(families.items())
        for column, name in enumerate(members)
    }


def _page(
    count: int, looks: Mapping[tuple[str, str], _Look], title: str | None, floor: bool
) -> tuple[Figure, list[Axes], int]:
    """Panels side by side, and where the legend begins."""
    names = [word for look in looks for word in look] + [_FLOOR] * floor
    legend = max([text_width(name, SMALL, bold=True) for name in names] or [0]) + 60
    lines = len(looks) + len({family for _, family in looks}) + 2 * floor
    right = _LEFT + count * (_WIDTH + _BETWEEN) - _BETWEEN + 24
    height = max(_TOP + _HEIGHT + _BELOW, _TOP + _LINE * lines + MARGIN)
    figure = new_page(right + (legend if looks else 0) + MARGIN, height)
    write_title(figure, title, _LEFT)
    tall = height - _TOP - _BELOW
    axes = [
        add_axes(figure, _LEFT + index * (_WIDTH + _BETWEEN), _TOP, _WIDTH, int(tall))
        for index in range(count)
    ]
    return figure, axes, right


def _shift(index: int, count: int) -> float:
    return 1.0 if count == 1 else 1 + _DODGE * (2 * index / (count - 1) - 1)


def _draw_curve(ax: Axes, curve: Curve, look: _Look, shift: float) -> None:
    x = np.asarray(curve.x, np.float64) * shift
    _mark(ax, x, curve.y, curve.error, look, line=True)


def _mark(
    ax: Axes,
    x: Sequence[float] | np.ndarray,
    y: Sequence[float],
    error: Sequence[float],
    look: _Look,
    *,
    line: bool,
) -> None:
    """A line or marks with error bars, whose lower ends stay above zero."""
    ys, bars = np.asarray(y, np.float64), np.asarray(error, np.float64)
    if bars.any():
        ax.errorbar(
            x, ys, yerr=[np.minimum(bars, 0.9 * ys), bars], fmt="none", ecolor=look.color,
            elinewidth=1, capsize=2, alpha=0.45, zorder=1.8,
        )  # fmt: skip
    ax.plot(
        x, ys, color=look.color, marker=look.marker, linestyle=look.style if line else "none",
        linewidth=1.5, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6,
    )  # fmt: skip


def _legend(figure: Figure, looks: Mapping[tuple[str, str], _Look], left: int, floor: bool) -> None:
    """Families in bold, their methods below, each with its line."""
    y, families = _TOP + _LINE / 2, dict.fromkeys(family for _, family in looks)
    for family in families:
        write(figure, family, left, y, SMALL, "left", "center", bold=True)
        y += _LINE
        for (name, own), look in looks.items():
            if own == family:
                _sample(figure, left, y, look.color, look.marker, look.style)
                write(figure, name, left + 44, y, SMALL, "left", "center")
                y += _LINE
    if floor:
        y += _LINE / 2
        _sample(figure, left, y, INK, "", _DASHES)
        write(figure, _FLOOR, left + 44, y, SMALL, "left", "center")


def _sample(figure: Figure, left: float, y: float, color: str, marker: str, style: Style) -> None:
    width, height = figure.bbox.size
    ends = [left / width, (left + 18) / width, (left + 36) / width]
    figure.add_artist(
        Line2D(
            ends,
            [1 - y / height] * 3,
            color=color,
            marker=marker or "None",
            markevery=[1],
            linestyle=style,
            linewidth=1.5,
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
        )  # fmt: skip
    )


def _roomy(ax: Axes, spots: Sequence[Spot]) -> None:
    """Logarithmic limits with room around the marks, and a few round numbers on the x axis."""
    xs = np.asarray([spot.x for spot in spots], np.float64)
    ys = np.asarray([spot.y for spot in spots], np.float64)
    for values, limit in ((xs, ax.set_xlim), (ys, ax.set_ylim)):
        pad = max(1.25, (values.max() / values.min()) ** 0.14)
        limit(values.min() / pad, values.max() * pad)
    low, high = ax.get_xlim()
    ax.set_xticks(apart(round_ticks(low, high), (high / low) ** _LABEL))
    ax.xaxis.set_major_formatter(lambda value, _: _power(value))
    ax.xaxis.set_minor_locator(NullLocator())


def _power(value: float) -> str:
    """2.5e12, with as many digits as it has."""
    mantissa, exponent = f"{value:.3e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


def _log_y(ax: Axes) -> None:
    """A logarithmic y axis with a few round numbers on it."""
    ax.set_yscale("log")
    ax.set_yticks(round_ticks(*ax.get_ylim()))
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.yaxis.set_minor_locator(NullLocator())


def round_ticks(low: float, high: float) -> list[float]:
    """A few round numbers between two positive ones, for a logarithmic axis."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in _ROUND:
        ticks = [d * 10.0**k for k in decades for d in digits if low <= d * 10.0**k <= high]
        if len(ticks) >= 4:
            return ticks[:: -(-len(ticks) // 8)]
    near = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(tick) for tick in near if low <= tick <= high]


def _name_spots(ax: Axes, spots: Sequence[Spot]) -> None:
    points = [tuple(ax.transData.transform((spot.x, spot.y))) for spot in spots]
    sizes = [(text_width(spot.name, SMALL) + 4, SMALL + 3) for spot in spots]
    box = ax.bbox
    places = place(points, sizes, Rectangle(box.x0, box.y0, box.width, box.height))
    back = ax.transData.inverted()
    for spot, point, name in zip(spots, points, places):
        x, y = back.transform((name.left + name.width / 2, name.bottom + name.height / 2))
        ax.text(
            x, y, spot.name, ha="center", va="center", fontproperties=font(SMALL), color=INK,
            parse_math=False, zorder=5, path_effects=[withStroke(linewidth=3, foreground="white")],
        )  # fmt: skip
        if not is_close(point, name):
            start, end = back.transform([point, name.nearest(*point)])
            ax.plot(*zip(start, end), color="#999999", linewidth=0.7, zorder=1.5)
