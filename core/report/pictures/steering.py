"""The quality and the cost of steering: the reward against the evaluations of the network."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.report.pictures._axes import COLORS, label_axes, log_x
from core.report.pictures._page import INK, SMALL, File, add_axes, font, new_page, save, write_title

_WIDTH, _HEIGHT, _LEFT, _TOP, _BELOW, _RIGHT = 460, 320, 90, 50, 64, 260
_MARKERS = "oosDv^<>"


def reward_plot(rows: Sequence[Mapping[str, Any]], path: File, title: str = "") -> Path:
    """The mean reward of each method, with its standard error, against its evaluations.

    The prior is a level, where that does not press several methods into one corner. Methods whose
    samples have the tilted distribution are filled, searches are hollow.
    Rows are those of `apps.tilt`, the prior first. Returns the path.
    """
    prior, *methods = rows
    figure = new_page(_LEFT + _WIDTH + _RIGHT, _TOP + _HEIGHT + _BELOW)
    write_title(figure, title, _LEFT)
    ax = add_axes(figure, _LEFT, _TOP, _WIDTH, _HEIGHT)
    for i, row in enumerate(methods):
        color, marker = COLORS[i % len(COLORS)], _MARKERS[(i // len(COLORS)) % len(_MARKERS)]
        ax.errorbar(
            [row["evaluations"]], [row["mean"]], yerr=[row.get("error", 0.0)], fmt=marker,
            color=color, capsize=3, label=row["method"],
            markerfacecolor=color if row["exact"] else "white",
        )  # fmt: skip
    low, high = ax.get_ylim()
    label = f"prior ({prior['mean']:.3g})"
    ax.axhline(prior["mean"], color=INK, linestyle=":", linewidth=1.2, label=label)
    if _presses(prior["mean"], [row["mean"] for row in methods]):
        ax.set_ylim(low, high)  # the legend alone has it
    log_x(ax, np.asarray([row["evaluations"] for row in methods], float))
    label_axes(ax, "evaluations of the network", "mean reward")
    ax.legend(
        loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, prop=font(SMALL),
        labelcolor=INK,
    )  # fmt: skip
    return save(figure, path)


def _presses(level: float, means: Sequence[float]) -> bool:
    """Whether a level is farther from several values than three times their spread."""
    low, high = min(means), max(means)
    return len(means) > 2 and not low - 3 * (high - low) <= level <= high + 3 * (high - low)
