"""Axes with a grid and plain numbers, linear or logarithmic; colours that differ clearly."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.ticker import LogFormatter, NullLocator, ScalarFormatter

from core.report.pictures._page import INK, TEXT, font

# The palette of Okabe and Ito without its yellow: colour-blind eyes can distinguish them too.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")

_TICK_GAP = 0.1  # of the axis, between the labels of ticks


class PlainNumbers(LogFormatter):
    """Labels the ticks that `LogFormatter` chooses, as 0.02 in place of a power of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def log_x(ax: Axes, values: np.ndarray) -> None:
    """Makes the x axis logarithmic; its ticks are the values, at most 10, that have room."""
    ax.set_xscale("log")
    ticks = np.unique(values[np.isfinite(values)])
    if 0 < len(ticks) <= 10:
        ax.set_xticks(apart(ticks, (ticks[-1] / ticks[0]) ** _TICK_GAP))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_locator(NullLocator())


def shading(brightest: float) -> PowerNorm:
    """The square root of a density as a colour: what is thin is seen too."""
    return PowerNorm(0.5, vmin=0, vmax=brightest)


def apart(ticks: Sequence[float] | np.ndarray, least: float) -> list[float]:
    """Those ticks, the first and on, that are `least` times the one before, or more: on a
    logarithmic axis their labels do not run into each other."""
    kept = [float(ticks[0])]
    for tick in ticks[1:]:
        if tick >= least * kept[-1]:
            kept.append(float(tick))
    return kept


def log_y(ax: Axes) -> None:
    """Makes the y axis logarithmic."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(PlainNumbers())
    ax.yaxis.set_minor_formatter(PlainNumbers(minor_thresholds=(1.2, 0.5)))


def label_axes(ax: Axes, xlabel: str, ylabel: str) -> None:
    """Names the axes, over a pale grid."""
    ax.grid(color="#dddddd", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(xlabel, fontproperties=font(TEXT), color=INK)
    ax.set_ylabel(ylabel, fontproperties=font(TEXT), color=INK)
