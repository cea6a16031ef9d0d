"""Seeds of a method put together: means and standard deviations."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.errors import UserError
from core.report.compare.cell import Cell

METRICS = {
    "points": ("w2", "kl", "map_error"),
    "series": ("frechet", "accuracy"),
    "image": ("frechet", "accuracy"),
    "tokens": ("bigram_tv", "nll", "unigram"),
}
"""The metrics of a comparison by kind of data; of the first, by which the table is ordered, less is
better."""


@dataclass(frozen=True)
class Spread:
    """Mean of `count` seeds and their sample standard deviation, None for a single one."""

    mean: float
    std: float | None
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread | None":
        """Of the values that there are; None if there are none."""
        numbers = [float(value) for value in values]
        if not numbers:
            return None
        std = statistics.stdev(numbers) if len(numbers) > 1 else None
        return cls(statistics.fmean(numbers), std, len(numbers))


@dataclass(frozen=True)
class Summary:
    """One method of a comparison: its budget, and `quality[metric][nfe]` over its seeds.

    `flops` are the operations of one training, None where they were not counted; `loop` says that
    they are too few. `teacher` is that of its cells.
    """

    plugin: str
    family: str
    sampler: str
    seeds: list[int]
    steps: int
    samples: int
    parameters: int
    flops: float | None
    loop: bool
    seconds: Spread
    teacher: dict[str, Any] | None
    quality: dict[str, dict[int, Spread]]

    def at(self, metric: str, nfe: int) -> Spread | None:
        """The figure of one metric at one number of evaluations, or None."""
        return self.quality.get(metric, {}).get(nfe)

    @property
    def all_flops(self) -> float | None:
        """Operations of the training and, where there is a teacher, of the teacher's."""
        taught = 0.0 if self.teacher is None else self.teacher["flops"]
        return None if self.flops is None or taught is None else self.flops + taught

    def to_json(self) -> dict[str, Any]:
        """Nested plain values."""
        return asdict(self)


def metrics_of(cells: Sequence[Cell]) -> list[str]:
    """The metrics that the cells have, the one that orders the table first."""
    wanted = METRICS[cells[0].kind]
    return [name for name in wanted if any(name in row for cell in cells for row in cell.rows)]


def summarise(cells: Sequence[Cell]) -> list[Summary]:
    """One summary a method, the best in the first metric at the fewest evaluations first.

    Raises `UserError` where the seeds of a method were not trained alike.
    """
    names = metrics_of(cells)
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.plugin, []).append(cell)
    summaries = [_summary(group, names) for group in groups.values()]
    fewest = min(row["nfe"] for cell in cells for row in cell.rows)

    def rank(summary: Summary) -> tuple[float, str]:
        spread = summary.at(names[0], fewest)
        return (float("inf") if spread is None else spread.mean, summary.plugin)

    return sorted(summaries, key=rank)


def _summary(cells: Sequence[Cell], names: Sequence[str]) -> Summary:
    first = cells[0]
    for cell in cells:
        if {**cell.config, "seed": 0} != {**first.config, "seed": 0}:
            raise UserError(
                f"{cell.plugin}: the settings of seeds {first.seed} and {cell.seed} differ; "
                "compare in another --out"
            )
    quality = {name: _by_nfe(cells, name) for name in names}
    seconds = Spread.of(cell.seconds for cell in cells)
    assert seconds is not None
    return Summary(
        plugin=first.plugin,
        family=first.family,
        sampler=first.sampler,
        seeds=[cell.seed for cell in cells],
        steps=first.steps,
        samples=first.samples,
        parameters=first.parameters,
        flops=first.total_flops,
        loop=first.loop,
        seconds=seconds,
        teacher=first.teacher,
        quality={name: by_nfe for name, by_nfe in quality.items() if by_nfe},
    )


def _by_nfe(cells: Sequence[Cell], name: str) -> dict[int, Spread]:
    rows = [row for cell in cells for row in cell.rows if row.get(name) is not None]
    counts = sorted({row["nfe"] for row in rows})
    spreads = {nfe: Spread.of(row[name] for row in rows if row["nfe"] == nfe) for nfe in counts}
    return {nfe: spread for nfe, spread in spreads.items() if spread is not None}
