"""How good a model of text is: rows for `apps.eval`, and the bits of text that was held out."""

import math
from typing import Any

import jax.random as jr

from core.data.dataset import Dataset
from core.errors import require
from core.metrics.categorical import likelihood_bound
from core.metrics.text import up_to_end
from core.report.evaluation import floor_name
from core.report.rows import Floors, Measurement
from core.report.texts import TextYardstick, evenly, text_rows, yardstick_of
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
    bits, error, texts = bits_a_symbol(model, dataset, asked.seed, stick)
    bound = {"metric": "bits", "value": bits, "error": error, "n": texts, **how}
    numbers = [bound, *(number for row in rows for number in _numbers(row, how))]
    lines = (
        f"nll: bits a symbol of samples under {stick.judge}; unigram: entropy of a symbol in bits",
        f"bits a symbol of {name} under this run: at most {bits:.3f} +- {error:.3f} (by its "
        f"denoiser, of {texts:,} texts); under {stick.judge} {held['nll']:.3f}",
    )
    found = Measurement(tuple(rows), tuple(numbers), ())
    return found, Floors((name,), (held,), tuple(_numbers(held, how))), lines


def bits_a_symbol(
    model: Model, dataset: Dataset, seed: int, stick: TextYardstick
) -> tuple[float, float, int]:
    """The bits of a symbol of held-out text under a model, an upper bound
    (`core.metrics.categorical`), its standard error, and the number of texts that were taken. Of
    texts that end, the symbols up to and with the end count."""
    codes = (dataset.held or dataset).examples
    codes = codes[evenly(len(codes), MOST)]
    bound = likelihood_bound(
        model.flow_map, codes, stick.symbols, batch=min(256, len(codes)), key=jr.key(seed)
    )
    each = math.log(2) * float(up_to_end(codes, stick.end).sum(axis=1).mean())
    return bound.nats / each, bound.error / each, len(codes)


def _numbers(row: dict[str, Any], how: dict[str, Any]) -> list[dict[str, Any]]:
    """Each figure of a row with what it depends on."""
    head = ("sampler", "steps", "nfe", "n")
    shared = {key: row.get(key) for key in head} | how
    return [
        {"metric": key, "value": value, **shared}
        for key, value in row.items()
        if key not in (*head, "features")
    ]
