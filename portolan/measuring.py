"""How good a model is: the table of `apps.eval`, in Python."""

from collections.abc import Sequence

from core.errors import require
from core.metrics.features import default_features
from core.report.evaluation import (
    check_measurable,
    evaluate_map,
    floor_row,
    samples_to_measure,
)
from core.sampling import Sampler, drawing_of, usable
from core.train.features import open_features
from portolan.drawing import check, choose, guided_map
from portolan.model import Model
from portolan.results import Table

COLUMNS = (
    "data", "sampler", "guidance", "steps", "nfe", "n", "frechet", "kid", "accuracy", "precision",
    "recall", "w2", "sliced_w2", "energy", "kl", "map_error",
)  # fmt: skip


def evaluate(
    model: Model,
    nfe: Sequence[int],
    n: int | None,
    sampler: str | Sampler | None,
    features: str | None,
    guidance: float | None,
    seed: int,
) -> Table:
    """See `Model.evaluate`."""
    require(len(nfe) > 0 and min(nfe) >= 1, "each nfe must be at least 1")
    require(n is None or n >= 2, f"n must be at least 2, got {n}")
    name, chosen = choose(model, sampler)
    used = usable(name, chosen, nfe, check(model, name, chosen))
    dataset = model.dataset()
    check_measurable(dataset)
    count = n or samples_to_measure(dataset)
    features = features or default_features(dataset.shape)
    space = open_features(features, dataset.shape)
    scale = None if guidance is None else (guidance, 0.0, 1.0)
    field = model.flow_map if guidance is None else guided_map(model, [chosen])
    drawings = [drawing_of(chosen, field.path, nfe, guidance=scale) for nfe in used]
    rows = evaluate_map(field, dataset, {name: drawings}, n=count, features=space, seed=seed)
    floor = floor_row(dataset, count, features=space)
    shown = [{"data": "samples", **row} for row in rows]
    shown.append({"data": "real against real", **floor})
    return Table(f"{model.title}: {features} features", COLUMNS, tuple(shown))
