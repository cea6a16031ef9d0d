"""Measuring on a manifold: the rows of real data and of noise, and the likelihood by the ODE."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.random as jr
import numpy as np

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import require
from core.flow.field import VelocityField
from core.flow.flow_map import FlowMap
from core.likelihood import log_volume, negative_log_likelihood
from core.metrics import cells_floor
from core.metrics.evaluate import Measured
from core.metrics.feature_set import FeatureSet
from core.report.rows import Floors, Plan
from core.report.versions import versions
from core.report.yardstick import of_data

MOST_BY_ODE = 500
"""Points whose likelihood is taken, at most."""


def check_space(spec: DataSpec, stats: Sequence[str], features: Sequence[str]) -> None:
    """Raises `UserError` where points of a manifold would be measured in flat features."""
    require(
        not spec.space or not (stats or features),
        "points on a manifold are compared by geodesic distances: leave out --stats and --features",
    )


def rows_in_space(
    field: VelocityField, plan: Plan, reference: Dataset, training: Dataset | None
) -> Floors:
    """The rows that end a table: real data, noise, and the likelihood of the reference.

    Real data are the `training` part against the `reference`, or two halves of the reference where
    it was not kept from training.
    """
    (stick,) = plan.sticks
    dim = reference.shape[0]
    if training is None:
        real = stick.floor(plan.n)
    else:
        index = np.arange(min(len(training), plan.n))
        real = stick.against(of_data(training, stick.extractor, index).reference)
    if reference.cells is not None:
        value = cells_floor(reference.cells, plan.n)
        real[0]["kl"], real[1]["kl"] = value, Measured(value, plan.n, 0, None, {"draws": plan.n})
    keys = jr.split(jr.key(plan.seed), min(plan.n, 10 * len(reference)))
    drawn = jax.jit(jax.vmap(lambda key: field.path.noise(key, (dim,))))(keys)
    noise = stick.against(FeatureSet(np.asarray(drawn, np.float64)))
    found = {"real against real": real, "noise": noise}
    if _has_likelihood(field, reference):
        found["reference by the ODE"] = _likelihood(field, reference)
    head = {"sampler": None, "steps": None, "nfe": None, "guidance": None, "labels": "data"}
    entries: list[dict[str, Any]] = []
    for _, numbers in found.values():
        entries += stick.entries(numbers, {**head, "seed": plan.seed, "versions": versions()})
    rows = tuple({"features": stick.extractor.name, **row} for row, _ in found.values())
    return Floors(tuple(found), rows, tuple(entries))


def _has_likelihood(field: VelocityField, reference: Dataset) -> bool:
    """Whether the velocity was learned, and the density of the noise is known."""
    learned = not isinstance(field, FlowMap) or field.two_times
    return learned and log_volume(field.path.space, reference.shape) is not None


def _likelihood(
    field: VelocityField, reference: Dataset
) -> tuple[dict[str, Any], dict[str, Measured]]:
    index = np.random.default_rng(0).permutation(len(reference))[:MOST_BY_ODE]
    x = np.asarray(reference.decode(reference.take(index)))
    labels = None if reference.labels is None else reference.labels[index]
    value, error = negative_log_likelihood(field, x, labels)
    numbers = {"nll": Measured(value, 0, len(index), error, {"solver": "dopri5, 1e-5"})}
    return {"n_reference": len(index), "nll": value, "nll_std": error}, numbers
