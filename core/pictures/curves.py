"""Named curves in one pair of axes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, NullLocator, ScalarFormatter

from core.pictures._page import (
    INK,
    SMALL,
    TEXT,
    File,
    add_axes,
    font,
    new_page,
    save,
    text_width,
    write_title,
)

Values = Sequence[int | float] | np.ndarray
Series = Mapping[str, tuple[Values, Values]]

# The palette of Okabe and Ito without its yellow: told apart by colour-blind eyes too.
_COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#555555")
_STYLES = ("-", "--", ":", "-.")
_WIDTH, _HEIGHT = 560, 330
_LEFT, _BELOW = 90, 64


def curve_plot(
    series: Series,
    path: File,
    xlabel: str,
    ylabel: str,
    logx: bool = False,
    logy: bool = False,
    title: str | None = None,
) -> Path:
    """Draws named curves `(x, y)` with a legend beside them, on linear or logarithmic axes.

    Values that are not finite, or not positive on a logarithmic axis, leave a gap. Curves of at
    most 40 points have dots; a logarithmic x axis with at most 10 different values shows those.
    Returns the path.

    **Raises:** `ValueError` if there are no curves, or `x` and `y` of one differ in length.
    """
    if not series:
        raise ValueError("expected at least one curve, got none")
    curves = {name: _visible(x, y, logx, logy) for name, (x, y) in series.items()}
    legend_width = max(text_width(name, SMALL) for name in curves) + 70
    top = 50 if title else 24
    figure = new_page(_LEFT + _WIDTH + legend_width, top + _HEIGHT + _BELOW)
    write_title(figure, title, _LEFT)
    ax = add_axes(figure, _LEFT, top, _WIDTH, _HEIGHT)
    for index, (name, (x, y)) in enumerate(curves.items()):
        ax.plot(
            x, y, label=name, linewidth=1.7, markersize=5, marker="o" if len(x) <= 40 else None,
            color=_COLORS[index % len(_COLORS)],
            linestyle=_STYLES[index // len(_COLORS) % len(_STYLES)],
        )  # fmt: skip
    if logy:
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(_PlainNumbers())
        ax.yaxis.set_minor_formatter(_PlainNumbers(minor_thresholds=(1.2, 0.5)))
    if logx:
        _log_x(ax, np.concatenate([x for x, _ in curves.values()]))
    _label(ax, xlabel, ylabel)
    return save(figure, path)


class _PlainNumbers(LogFormatter):
    """Labels the ticks that `LogFormatter` chooses, as 0.02 in place of a power of ten."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:g}" if super().__call__(x, pos) else ""


def _visible(x: Values, y: Values, logx: bool, logy: bool) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise ValueError(f"a curve needs x and y of one length, got {xs.shape} and {ys.shape}")
    drawn = np.isfinite(xs) & np.isfinite(ys) & ((xs > 0) | (not logx)) & ((ys > 0) | (not logy))
    return np.where(drawn, xs, np.nan), np.where(drawn, ys, np.nan)


def _log_x(ax: Axes, values: np.ndarray) -> None:
    ax.set_xscale("log")
    ticks = np.unique(values[np.isfinite(values)])
    if 0 < len(ticks) <= 10:
        ax.set_xticks(ticks)
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_locator(NullLocator())


def _label(ax: Axes, xlabel: str, ylabel: str) -> None:
    ax.grid(color="#dddddd", linewidth=0.8)
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_xlabel(xlabel, fontproperties=font(TEXT), color=INK)
    ax.set_ylabel(ylabel, fontproperties=font(TEXT), color=INK)
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, prop=font(SMALL),
        labelcolor=INK,
    )  # fmt: skip
