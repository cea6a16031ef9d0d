"""Named curves in one pair of axes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from core.report.pictures._axes import COLORS, label_axes, log_x, log_y
from core.report.pictures._page import (
    INK,
    SMALL,
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
            color=COLORS[index % len(COLORS)],
            linestyle=_STYLES[index // len(COLORS) % len(_STYLES)],
        )  # fmt: skip
    if logy:
        log_y(ax)
    if logx:
        log_x(ax, np.concatenate([x for x, _ in curves.values()]))
    _label(ax, xlabel, ylabel)
    return save(figure, path)


def _visible(x: Values, y: Values, logx: bool, logy: bool) -> tuple[np.ndarray, np.ndarray]:
    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if xs.ndim != 1 or xs.shape != ys.shape:
        raise ValueError(f"a curve needs x and y of one length, got {xs.shape} and {ys.shape}")
    drawn = np.isfinite(xs) & np.isfinite(ys) & ((xs > 0) | (not logx)) & ((ys > 0) | (not logy))
    return np.where(drawn, xs, np.nan), np.where(drawn, ys, np.nan)


def _label(ax: Axes, xlabel: str, ylabel: str) -> None:
    label_axes(ax, xlabel, ylabel)
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, prop=font(SMALL),
        labelcolor=INK,
    )  # fmt: skip
