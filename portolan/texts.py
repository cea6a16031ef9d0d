"""How good a model of text is: rows for `apps.eval`, and the bits of text that was held out."""

from typing import Any

from core.errors import require
from core.report.evaluation import floor_name
from core.report.rows import Floors, Measurement
from core.report.texts import text_rows, yardstick_of
from core.report.versions import versions
from portolan.asked import Asked
from portolan.model import Model
from portolan.progress import Meter

MOST = 1000
"""Samples of a row where no number is given."""


def measured_text(
    model: Model, asked: Asked, *, progress: bool = True
) -> tuple[Measurement, Floors, tuple[str, ...]]:
    """The rows of samples, those of text that was held out, and lines on both. Raises
    `UserError` for measures of pictures."""
    require(
        not (asked.features or asked.stats or asked.classifier),
        "text is measured by itself: leave out --features, --stats and --classifier",
    )
    require(asked.start is None, "samples of text start from noise: leave out --from")
    dataset, n = model.dataset(), asked.n or MOST
    total = n * sum(map(len, asked.drawings.values()))
    with Meter("sampling and measuring", total, shown=progress) as meter:
        rows = text_rows(
            asked.field, dataset, asked.drawings, n=n, seed=asked.seed, progress=meter.more
        )
    stick, name = yardstick_of(dataset), floor_name(dataset)
    held = {"n": n, **stick.held_out(dataset, n)}
    how = {"judge": stick.judge, "seed": asked.seed, "versions": versions()}
    numbers = [number for row in rows for number in _numbers(row, how)]
    line = (
        f"nll: bits a symbol of samples under {stick.judge}; unigram: entropy of a symbol in bits"
    )
    found = Measurement(tuple(rows), tuple(numbers), ())
    return found, Floors((name,), (held,), tuple(_numbers(held, how))), (line,)


def _numbers(row: dict[str, Any], how: dict[str, Any]) -> list[dict[str, Any]]:
    """Each figure of a row with what it depends on."""
    head = ("sampler", "steps", "nfe", "n")
    shared = {key: row.get(key) for key in head} | how
    return [
        {"metric": key, "value": value, **shared}
        for key, value in row.items()
        if key not in (*head, "features")
    ]
