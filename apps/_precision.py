"""The table of `apps.check --dtype`: how exactly residuals are computed, by precision."""

import dataclasses
from typing import Any

from apps._in_turn import in_turn
from core.conformance.precision import PRECISIONS, Precision, precision_errors
from core.flow.path import Path
from core.methods.plugin import Plugin
from core.methods.registry import find_plugin

NOTE = (
    "Error of the residuals over their size against float64, with a transformer that has noise for "
    "parameters. tf32: operands of float32 products rounded as GPUs do by default. multiplied: by "
    "how much the method says that rounding counts; above 64 it is refused in bfloat16."
)
COLUMNS = ("plugin", "rows", *PRECISIONS, "multiplied", "passed")

Table = tuple[str, tuple[str, ...], list[dict[str, Any]]]


def variants(names: list[str]) -> dict[str, Plugin]:
    """The methods with their flags for small images, and each kind of derivative of those that
    have two."""
    found = {}
    for name in names:
        plugin = find_plugin(name).preset("small-image")
        for derivative in ("difference", "exact") if hasattr(plugin, "derivative") else ("",):
            changes = {"derivative": derivative} if derivative else {}
            found[f"{name} {derivative}".strip()] = dataclasses.replace(plugin, **changes)
    return found


def measured(
    chosen: dict[str, Plugin], path: Path, rows: int, seed: int
) -> tuple[Table, list[dict[str, Any]]]:
    """The table of these plugins, and the same as JSON."""
    report, lines = [], []
    for label, plugin in in_turn("measuring", chosen):
        found = precision_errors(plugin, path, rows=rows, seed=seed)
        passed = all(one.passed for one in found)
        kinds = [dataclasses.asdict(one) for one in found]
        report.append({"name": label, "passed": passed, "precision": kinds})
        lines += [_line(label, one) for one in found]
    return ("Passes if rounded products do little harm, and bfloat16 too or it is refused", COLUMNS,
            lines), report  # fmt: skip


def _line(label: str, found: Precision) -> dict[str, Any]:
    errors = {name: f"{value:.1e}" for name, value in found.errors.items()}
    declared = f"{found.declared:.0f}"
    return {"plugin": label, "rows": found.kind, **errors, "multiplied": declared,
            "passed": found.passed}  # fmt: skip
