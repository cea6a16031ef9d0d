"""Several features and several drawings at once: rows of a table, and each number with what it
depends on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from core.data.spec import DataSpec
from core.flow.field import VelocityField
from core.metrics.evaluate import Measured
from core.metrics.feature_set import in_pieces
from core.metrics.features import PIECE
from core.report.drawn import Drawn, Labels, drawn, drawn_to, in_pictures
from core.report.evaluation import head_of, map_error
from core.report.versions import versions
from core.report.yardstick import Yardstick
from core.sampling import Drawing, check_sampler

Row = dict[str, Any]
Progress = Callable[[int], None] | None


@dataclass(frozen=True, eq=False)
class Judge:
    """A classifier of examples: `name`, and `classes(values)`, the class of each."""

    name: str
    classes: Callable[[np.ndarray], Int[np.ndarray, " n"]]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is drawn and by what it is measured.

    **Fields:** `drawings` by the name of their sampler; `labels`, one a sample or their number, and
    `shares`, how classes are shared out among them; `sticks`, a yardstick for each features;
    `judge`, in the place of the nearest neighbour; `store`, the folder for samples on disk, which
    are kept there, or None; `about`, what else stored samples depend on.
    """

    spec: DataSpec
    drawings: Mapping[str, Sequence[Drawing]]
    labels: Labels
    shares: str
    sticks: Sequence[Yardstick]
    seed: int = 0
    judge: Judge | None = None
    store: Path | None = None
    about: Row = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Samples a row."""
        return self.labels if isinstance(self.labels, int) else len(self.labels)


@dataclass(frozen=True, eq=False)
class Measurement:
    """Rows of the table, one for each drawing and features; `numbers`, each with all that it
    depends on; `stored`, the samples that lie on disk."""

    rows: tuple[Row, ...]
    numbers: tuple[Row, ...]
    stored: tuple[Drawn, ...]


def measured(field_: VelocityField, plan: Plan, progress: Progress = None) -> Measurement:
    """Draws the samples of each row once and measures them in all features.

    Raises `UserError` for a sampler that the map cannot serve. `progress` is called with the number
    of samples drawn, and again with those whose features by a network were taken.
    """
    rows: list[Row] = []
    numbers: list[Row] = []
    kept: list[Drawn] = []
    for name, several in plan.drawings.items():
        for drawing in several:
            check_sampler(name, drawing.sampler, field_)
            samples = in_pictures(_drawn(field_, drawing, plan, progress), plan.spec)
            kept += [] if samples.stored is None else [samples]
            error = map_error(samples, drawing, field_, plan.spec.name, plan.seed)
            judged = _judged(samples, plan.judge)
            for stick in plan.sticks:
                flat, found = stick.measure(samples, seed=plan.seed, progress=progress)
                _replace(flat, found, judged)
                head = head_of(name, drawing, samples, stick)
                rows.append({**head, **flat, **error})
                numbers += stick.entries(found, _shared(head, samples, plan))
    return Measurement(tuple(rows), tuple(numbers), tuple(kept))


def _drawn(field_: VelocityField, drawing: Drawing, plan: Plan, progress: Progress) -> Drawn:
    if plan.store is None:
        shape = plan.spec.shape
        return drawn(field_, drawing, shape, plan.labels, seed=plan.seed, progress=progress)
    return drawn_to(
        plan.store, plan.about, field_, drawing, plan.spec, plan.labels, seed=plan.seed,
        progress=progress,
    )  # fmt: skip


def _judged(samples: Drawn, judge: Judge | None) -> Measured | None:
    if judge is None or samples.labels is None:
        return None
    parts = [judge.classes(samples.read(index)) for index in in_pieces(samples.n, PIECE)]
    right = np.concatenate(parts) == samples.labels
    return Measured(float(right.mean()), samples.n, 0, None, {"judge": judge.name})


def _replace(flat: Row, found: dict[str, Measured], judged: Measured | None) -> None:
    """Puts what the judge found in the place of the nearest neighbour's accuracy."""
    if judged is not None:
        found["accuracy"] = judged
        flat["accuracy"] = judged.value


def _shared(head: Row, samples: Drawn, plan: Plan) -> Row:
    return {
        "sampler": head["sampler"],
        "steps": head["steps"],
        "nfe": head["nfe"],
        "guidance": head.get("guidance"),
        "labels": plan.shares,
        "rounding": samples.rounding,
        "codec_sha256": plan.spec.codec.sha256 or None,
        "seed": plan.seed,
        "versions": versions(),
    }


@dataclass(frozen=True)
class Floors:
    """The rows that end a table, one for each features, their `names`, and their numbers."""

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    numbers: tuple[Row, ...]


def floors(plan: Plan, beside: Sequence[Yardstick | None], real: Drawn | None = None) -> Floors:
    """The numbers of real data: two disjoint parts of them; where the reference is a file, the data
    against it, of which `beside` has the features, or nothing. The plan's judge names the classes
    of the `real` examples, as it does those of samples."""
    judged = None if real is None else _judged(real, plan.judge)
    names: list[str] = []
    rows: list[Row] = []
    numbers: list[Row] = []
    for stick, data in zip(plan.sticks, beside):
        if stick.sha256 and data is None:
            continue
        flat, found = stick.floor(plan.n) if data is None else stick.against(data.reference)
        if plan.judge is not None:  # the nearest neighbour's would stand below what the judge says
            found.pop("accuracy", None)
            flat.pop("accuracy", None)
        _replace(flat, found, judged)
        names.append("real against real" if data is None else "data against reference")
        rows.append({"features": stick.extractor.name, **flat})
        head = {"sampler": None, "steps": None, "nfe": None, "guidance": None, "labels": "data"}
        numbers += stick.entries(found, {**head, "seed": 0, "versions": versions()})
    return Floors(tuple(names), tuple(rows), tuple(numbers))
