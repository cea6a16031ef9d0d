"""A comparison as Markdown and as JSON."""

import math
from collections.abc import Sequence
from typing import Any

from core.report.compare.aggregate import Spread, Summary, metrics_of, summarise
from core.report.compare.cell import Cell

FLOOR = "real against real"
LABELS = {
    "w2": "exact W2",
    "kl": "KL divergence",
    "map_error": "distance to the exact map",
    "frechet": "Fréchet distance",
    "accuracy": "accuracy",
    "bigram_tv": "total variation of pairs",
    "nll": "bits a symbol",
    "unigram": "entropy of a symbol",
}
_MEANING = {
    "w2": "Wasserstein-2 distance to the data, exact on at most 2,048 points; less is better.",
    "kl": "Divergence of the samples' histogram from that of the data, in nats; less is better.",
    "map_error": "Mean distance to the exact flow map from the same noise; less is better.",
    "frechet": "Fréchet distance on the features {features}, no FID; less is better.",
    "accuracy": "Share of samples whose nearest example has the class asked for; more is better.",
    "bigram_tv": "Total variation between pairs of neighbours and the data's; less is better.",
    "nll": "Bits a symbol of the samples under a model of the data. As the data's is best: text "
    "that repeats itself has less.",
    "unigram": "Entropy in bits of a symbol at a random place. As the data's is best.",
}


def markdown(cells: Sequence[Cell]) -> str:
    """The tables of a comparison: one for each metric.

    One row a method, one column a number of evaluations; the first table has the budgets too.
    """
    summaries, names = summarise(cells), metrics_of(cells)
    parts = [f"# Methods on {cells[0].config['data']['name']}", _caption(cells, summaries)]
    for index, name in enumerate(names):
        meaning = _MEANING[name].format(features=cells[0].features)
        parts += [f"## {LABELS[name]}", meaning]
        parts.append(_table(summaries, cells[0].reference, name, budget=index == 0))
        if index == 0:
            parts.append(_notes(summaries))
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(cells: Sequence[Cell]) -> dict[str, Any]:
    """The shared settings, the floor, the methods' means and deviations, and the cells."""
    return {
        "shared": cells[0].shared,
        "reference": cells[0].reference,
        "methods": [summary.to_json() for summary in summarise(cells)],
        "cells": [cell.to_json() for cell in cells],
    }


def _caption(cells: Sequence[Cell], summaries: Sequence[Summary]) -> str:
    seeds = sorted({len(summary.seeds) for summary in summaries})
    count = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    budget = cells[0].shared.get("comparison", {})
    equal = "the same operations" if budget.get("budget") == "flops" else "the same examples"
    return (
        f"Budget: {equal} for all. Columns are numbers of network evaluations a sample; "
        f"{cells[0].n:,} samples a figure; mean ± standard deviation over seeds ({count} a method)."
    )


def _notes(summaries: Sequence[Summary]) -> str:
    notes = [
        "Operations are those of the training alone, as the compiler counts them; seconds leave "
        "out compilation and are those of the machine at hand."
    ]
    if any(summary.teacher for summary in summaries):
        notes.append(
            "Teacher samples are the training examples of the teacher, which come on top, as do "
            "pairs that it makes beforehand."
        )
    if any(summary.loop for summary in summaries):
        notes.append(
            "\\* The step holds a loop, whose body the compiler counts once: there are more "
            "operations than that."
        )
    return " ".join(notes)


def _table(
    summaries: Sequence[Summary], reference: dict[str, Any], name: str, *, budget: bool
) -> str:
    counts = sorted({nfe for summary in summaries for nfe in summary.quality.get(name, {})})
    taught = any(summary.teacher for summary in summaries)
    head = ["method", *(str(nfe) for nfe in counts)]
    head += ["steps", "samples", "training FLOPs", "seconds"] if budget else []
    head += ["teacher samples"] if budget and taught else []
    rows = []
    for summary in summaries:
        row = [summary.plugin, *(figure(summary.at(name, nfe)) for nfe in counts)]
        rows.append(row + (_budget(summary, taught) if budget else []))
    floor = Spread.of([reference[name]] if name in reference else [])
    if floor is not None:
        rows.append([FLOOR, *[figure(floor)] * len(counts), *[""] * (len(head) - len(counts) - 1)])
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _budget(summary: Summary, taught: bool) -> list[str]:
    cells = [f"{summary.steps:,}", f"{summary.samples:,}"]
    cells.append(operations(summary.flops) + (" \\*" if summary.loop else ""))
    cells.append(figure(summary.seconds))
    if taught:
        samples = None if summary.teacher is None else summary.teacher["samples"]
        known = "unknown" if samples is None else f"{samples:,}"
        cells.append("" if summary.teacher is None else known)
    return cells


def figure(spread: Spread | None) -> str:
    """`0.123 ± 0.004`: three digits of the mean, and the deviation to the same place."""
    if spread is None:
        return ""
    size = abs(spread.mean)
    digits = 3 if size == 0 else min(max(2 - math.floor(math.log10(size)), 0), 6)
    mean = f"{spread.mean:,.{digits}f}"
    return mean if spread.std is None else f"{mean} ± {spread.std:,.{digits}f}"


def operations(flops: float | None) -> str:
    """A number of operations with three digits, as 1.23e12."""
    if flops is None:
        return "unknown"
    mantissa, exponent = f"{flops:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"
