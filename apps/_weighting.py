"""The table of `apps.check --weights`: how much rows count by their source time."""

import dataclasses
from typing import Any

from core.conformance.weighting import SOURCES, Weighting, weighting
from core.flow.path import Path
from core.methods.plugin import Plugin

NOTE = (
    "Weight of a residual of unit length on whole jumps (s, 0) at the end of training, over the "
    "largest of its row. above: share of the rows that start above 0.98; last: the largest time at "
    "which one of 16,384 starts. One-step sampling starts at 1. A row passes if the weight there "
    "is at least 0.3 of that at 0.98 and training reaches 0.95."
)
COLUMNS = ("plugin", "rows", *(f"{s:g}" for s in SOURCES), "above", "last", "passed")
LEAST, REACH = 0.3, 0.95

Table = tuple[str, tuple[str, ...], list[dict[str, Any]]]


def tabulated(chosen: dict[str, Plugin], path: Path) -> tuple[Table, list[dict[str, Any]]]:
    """The table of these plugins, and the same as JSON."""
    report, lines = [], []
    for label, plugin in chosen.items():
        found = weighting(plugin, path)
        entry = [dataclasses.asdict(one) for one in found]
        report.append({"name": label, "passed": all(map(passes, found)), "weights": entry})
        lines += [_line(label, one) for one in found]
    return ("Weight against the source time s", COLUMNS, lines), report


def passes(found: Weighting) -> bool:
    """Whether one-step sampling starts where training put weight."""
    return found.at_start >= LEAST and found.last >= REACH


def _line(label: str, found: Weighting) -> dict[str, Any]:
    weights = {f"{s:g}": f"{w:.2g}" for s, w in zip(SOURCES, found.weights, strict=True)}
    ends = {"above": f"{found.above:.3f}", "last": f"{found.last:.3f}", "passed": passes(found)}
    return {"plugin": label, "rows": found.kind, **weights, **ends}
