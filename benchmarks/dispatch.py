"""Steps a dispatch: `python -m benchmarks.dispatch`.

The cost of leaving the compiled program after every step, or every so many, through the trainer
of `apps.train`: its batches, its program, its metrics.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from apps._main import launch
from benchmarks._steps import dispatches, turn
from benchmarks._timing import interleaved, quartiles
from core.data import Dataset
from core.errors import require
from core.report.versions import caption, versions
from core.train.cli import parse, parse_flags
from core.train.config import TrainConfig
from portolan.tables import console, markdown, print_table, save

COLUMNS = ("run", "steps a dispatch", "steps/s", "ms a step", "share of dispatch")
AIM = 0.05


@dataclass(frozen=True)
class DispatchConfig:
    """Steps a second against the steps in one call of the compiled program.

    With `T_k` the time of a step at `k` steps a dispatch and `K` the largest `k`, a dispatch costs
    `D = (T_1 - T_K) / (1 - 1/K)`, and its share of a step is `D / (k T_k)`. Medians over rounds, in
    each of which every `k` has its turn.
    """

    widths: tuple[int, ...] = (64, 256)
    """Widths of the mlp; none: the job alone."""
    plugin: str = "mf"
    """Method of the mlp, on points."""
    batch: int = 256
    """Its batch."""
    dispatch: tuple[int, ...] = (1, 10, 100, 1000)
    """Steps a dispatch; 1 is always among them."""
    steps: int = 200
    """Steps of each variant in a round, at least; always whole dispatches."""
    job: bool = True
    """Measure the main job too: imf on digits as its recipe has it."""
    train: str = ""
    """Flags of apps.train that change the main job, in one word: --train="--batch 64"."""
    job_steps: int = 20
    """Its steps of each variant in a round, at least."""
    rounds: int = 5
    """Rounds that are timed, after one that is not."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        least = min((*self.dispatch, *self.widths, self.steps, self.job_steps, self.rounds))
        require(least >= 1, "--dispatch, --widths, --steps and --rounds must be at least 1")
        require(max(self.dispatch, default=1) > 1, "--dispatch needs a number above 1")


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the table and writes it."""
    config = parse_flags(DispatchConfig, argv)
    runs = [
        (f"mlp, width {width}", of_points(config.plugin, width, config.batch))
        for width in config.widths
    ]
    rows, job = [], None
    for name, run in runs:
        rows += measured(name, run, config.dispatch, config.steps, config.rounds)
    if config.job:
        run = parse(["--plugin", "imf", "--data", "digits", *shlex.split(config.train)])
        counts = tuple(sorted({1, run.dispatch, 10 * run.dispatch}))
        job = measured(f"{run.plugin} on {run.data}", run, counts, config.job_steps, config.rounds)
        rows += job
    result: dict[str, Any] = {"versions": versions(), "rows": rows}
    table = "Steps a dispatch", COLUMNS, [shown(row) for row in rows]
    print_table(*table)
    lines = []
    if job:
        result["job"] = next(row for row in job if row["dispatch"] == run.dispatch)
        lines.append(job_line(result["job"]))
        console.print(lines[0])
    if config.out:
        notes = "\n\n".join([*lines, caption(result["versions"])])
        save(config.out, result, f"{markdown(*table)}\n{notes}\n")
    return result if config.json else None


def of_points(plugin: str, width: int, batch: int) -> TrainConfig:
    """A run of an mlp on points."""
    flags = f"--plugin {plugin} --data eight-gaussians --net.width {width} --batch {batch}"
    return parse(flags.split())


def measured(
    name: str,
    run: TrainConfig,
    counts: Sequence[int],
    steps: int,
    rounds: int,
    data: Dataset | None = None,
) -> list[dict[str, Any]]:
    """A row for each number of steps a dispatch; `data` in place of the run's own."""
    counts = sorted({1, *counts})
    console.print(f"{name}: compiling for {', '.join(map(str, counts))} steps a dispatch")
    turns = {k: math.ceil(steps / k) for k in counts}
    loops = {k: dispatches(replace(run, dispatch=k), data) for k in counts}
    for loop in loops.values():
        next(loop)  # compiles
    variants = {str(k): turn(loops[k], turns[k]) for k in counts}
    found = interleaved(variants, rounds)
    return rows_of(name, {k: [s / (k * turns[k]) for s in found[str(k)]] for k in counts})


def rows_of(name: str, seconds: dict[int, list[float]]) -> list[dict[str, Any]]:
    """The rows, from the seconds of a step in each round by steps a dispatch."""
    most = max(seconds)
    costs = [
        (one - many) / (1 - 1 / most) for one, many in zip(seconds[1], seconds[most], strict=True)
    ]
    rows = []
    for k, each in seconds.items():
        shares = [cost / (k * step) for cost, step in zip(costs, each, strict=True)]
        rows.append(
            {
                "run": name,
                "dispatch": k,
                "steps_per_second": round(1 / median(each), 2),
                "milliseconds": round(1e3 * median(each), 4),
                "share": round(median(shares), 4),
                "share_quartiles": [round(q, 4) for q in quartiles(shares)],
                "dispatch_milliseconds": round(1e3 * median(costs), 4),
            }
        )
    return rows


def job_line(row: dict[str, Any]) -> str:
    """The figure of the main job in words."""
    low, high = (100 * share for share in row["share_quartiles"])
    return (
        f"{row['run']}, {row['dispatch']} steps a dispatch: dispatch costs "
        f"{100 * row['share']:.2f} % of a step (quartiles {low:.2f} to {high:.2f}; aim: under "
        f"{100 * AIM:.0f} %)"
    )


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the printed table."""
    keys = ("run", "dispatch", "steps_per_second", "milliseconds", "share")
    return dict(zip(COLUMNS, (row[key] for key in keys), strict=True))


if __name__ == "__main__":
    launch(main)
