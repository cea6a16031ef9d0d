"""How good a model is: the table of `apps.eval`, in Python."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from core.data.dataset import Dataset
from core.errors import require
from core.metrics.naming import is_network
from core.report.drawn import Drawn, examples
from core.report.evaluation import evenly, reference_index
from core.report.rows import Floors, Measurement, Plan, floors, measured
from core.report.texts import COLUMNS as TEXT_COLUMNS
from core.report.versions import versions
from core.report.words import how_made
from core.sampling import Sampler, drawing_of, usable
from core.train.folder import code, one_writer
from portolan.asked import Asked
from portolan.curved import check_space, rows_in_space
from portolan.drawing import check, choose, guided_map, starts_of
from portolan.model import Model
from portolan.progress import Meter
from portolan.results import Table
from portolan.tables import console
from portolan.texts import measured_text
from portolan.yardsticks import (
    data_of,
    extractors_of,
    judge_of,
    labels_of,
    number_of_samples,
    sticks_of,
)

COLUMNS = (
    "data", "features", "sampler", "guidance", "steps", "nfe", "n", "frechet", "kid",
    "inception_score", "accuracy", "precision", "recall", "density", "coverage", "w2", "sliced_w2",
    "energy", "mmd", "mmd2", "kl", "nll", "map_error", *TEXT_COLUMNS,
)  # fmt: skip
MOST_IN_MEMORY = 2**28
"""Bytes of a row's samples as network values, beyond which they lie on disk."""
MOST_DRAWN = 10_000
"""Samples of a row, beyond which they lie on disk."""


@dataclass(frozen=True)
class Answer:
    """What was found.

    **Fields:** `found`, the rows and numbers of the samples; `real`, those of real data, the floor;
    `lines` on how the numbers were made; the names of the `features`.
    """

    found: Measurement
    real: Floors
    lines: tuple[str, ...]
    features: tuple[str, ...]

    def shown(self, features: str | None = None) -> list[dict[str, Any]]:
        """The rows of the table, or those of one of the features."""
        rows = [{"data": "samples", **row} for row in self.found.rows]
        rows += [{"data": name, **row} for name, row in zip(self.real.names, self.real.rows)]
        if features is None:
            return rows
        return [{**row, "features": None} for row in rows if row["features"] == features]


def measure(
    model: Model,
    asked: Asked,
    say: Callable[[str], None] = console.print,
    *,
    progress: bool = True,
) -> Answer:
    """Measures a model; `say` is called with lines for the user, and `progress` says whether to
    print how far it is. Raises `UserError`."""
    if model.spec.kind == "tokens":
        return Answer(*measured_text(model, asked, progress=progress), ("text",))
    spec, dataset = model.spec, data_of(model, asked.stats, say)
    held = model.held_out() if spec.space and dataset is not None else None
    reference = dataset if held is None else held
    check_space(spec, asked.stats, asked.features)
    shown = replace(spec, shape=spec.picture_shape)  # latents are measured as pictures
    extractors = extractors_of(shown, asked.features, say)
    n = asked.n or number_of_samples(shown, reference, extractors)
    store = asked.store if asked.keep or _large(spec.shape, n) else None
    sticks, beside = sticks_of(
        shown, reference, extractors, asked.stats, n=n, allow_few=asked.allow_few,
        progress=progress,
    )  # fmt: skip
    for line in filter(None, (stick.too_few(n) for stick in sticks)):
        say(line)
    labels, shares = labels_of(spec, reference, n)
    judge = judge_of(asked.classifier, shown)
    starts = starts_of(model, n, asked.seed, asked.start)
    coupled = model.abilities.noise == "coupled"
    drawings = {
        name: [replace(one, starts=starts, coupled=coupled) for one in several]
        for name, several in asked.drawings.items()
    }
    plan = Plan(spec, drawings, labels, shares, sticks, asked.seed, judge, store, about(model))
    slow = 1 + sum(map(is_network, extractors))
    total = n * slow * sum(map(len, asked.drawings.values()))
    with one_writer(store) if store is not None else nullcontext():
        with Meter("sampling and measuring", total, shown=progress) as meter:
            found = measured(asked.field, plan, meter.more)
    names = tuple(one.name for one in extractors)
    real = floors(plan, beside, None if dataset is None or judge is None else _real(dataset, n))
    if reference is not None and spec.space:
        real = rows_in_space(asked.field, plan, reference, None if held is None else dataset)
    return Answer(found, real, tuple(how_made(plan, found)), names)


def _real(dataset: Dataset, n: int) -> Drawn:
    """As many examples of the data as there are samples, evenly spaced."""
    return examples(dataset, evenly(reference_index(dataset), n))


def about(model: Model) -> dict[str, Any]:
    """What samples depend on beside weights and drawing: the model's title, code and versions."""
    found = versions()
    return {"model": model.title, "code": code(), "jax": found["jax"], "device": found["device"]}


def _large(shape: tuple[int, ...], n: int) -> bool:
    return n > MOST_DRAWN or 4 * n * math.prod(shape) > MOST_IN_MEMORY


def evaluate(
    model: Model,
    nfe: Sequence[int],
    n: int | None,
    sampler: str | Sampler | None,
    features: str | Sequence[str] | None,
    guidance: float | None,
    seed: int,
    stats: str | Sequence[str] | None = None,
) -> Table:
    """See `Model.evaluate`."""
    require(len(nfe) > 0 and min(nfe) >= 1, "each nfe must be at least 1")
    require(n is None or n >= 2, f"n must be at least 2, got {n}")
    name, chosen = choose(model, sampler)
    used = usable(name, chosen, nfe, check(model, name, chosen))
    scale = None if guidance is None else (guidance, 0.0, 1.0)
    field = model.flow_map if guidance is None else guided_map(model, [chosen])
    drawings = [
        drawing_of(chosen, field.path, nfe, grid=model.grid, guidance=scale) for nfe in used
    ]
    asked = Asked(field, {name: drawings}, n or 0, _names(features), _names(stats), seed=seed)
    answer = measure(model, asked, progress=False)
    by = "geodesic distances" if model.spec.space else f"{' and '.join(answer.features)} features"
    title = f"{model.title}: {by}"
    one = answer.features[0] if len(answer.features) == 1 else None
    return Table(title, COLUMNS, tuple(answer.shown(one)))


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)
