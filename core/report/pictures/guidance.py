"""The effect of guidance: metrics of samples against its scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core.report.pictures._axes import COLORS, label_axes, log_x
from core.report.pictures._page import INK, SMALL, File, add_axes, font, new_page, save, write_title

_PANELS = {"frechet": "Fréchet distance", "accuracy": "class accuracy"}
_WIDTH, _HEIGHT, _GAP, _LEFT, _TOP, _BELOW = 380, 300, 90, 90, 50, 64


def guidance_curves(
    rows: Sequence[Mapping[str, Any]], floor: Mapping[str, Any], path: File, title: str = ""
) -> Path:
    """Fréchet distance and class accuracy against the guidance scale, a curve for each sampler and
    number of evaluations, with real data against real data as a level. Returns the path.

    Rows are those of `core.report.evaluation.evaluate_map`, with `guidance`.
    """
    panels = {key: name for key, name in _PANELS.items() if all(key in row for row in rows)}
    width = _LEFT + len(panels) * (_WIDTH + _GAP) + 110
    figure = new_page(width, _TOP + _HEIGHT + _BELOW)
    write_title(figure, title, _LEFT)
    curves: dict[tuple[str, Any], list[Mapping[str, Any]]] = {}
    for row in rows:
        curves.setdefault((row["sampler"], row["nfe"]), []).append(row)
    for place, (key, name) in enumerate(panels.items()):
        ax = add_axes(figure, _LEFT + place * (_WIDTH + _GAP), _TOP, _WIDTH, _HEIGHT)
        for color, ((sampler, nfe), points) in zip(COLORS, curves.items(), strict=False):
            xs, ys = [point["guidance"] for point in points], [point[key] for point in points]
            ax.plot(xs, ys, marker="o", color=color, linewidth=1.7, label=f"{sampler}, {nfe}")
        if key in floor:
            ax.axhline(floor[key], color=INK, linestyle=":", linewidth=1.2, label="real data")
        log_x(ax, np.asarray([row["guidance"] for row in rows]))
        label_axes(ax, "guidance scale", name)
        if place == len(panels) - 1:
            ax.legend(
                loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, prop=font(SMALL),
                labelcolor=INK,
            )  # fmt: skip
    return save(figure, path)
