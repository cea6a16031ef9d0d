"""Rows of the table of a map."""

import dataclasses

import numpy as np
import pytest

from core.data import DATA, Dataset
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.report import evaluation
from core.report.evaluation import evaluate_map
from core.sampling import SAMPLERS, drawing_of


def test_the_distance_to_the_exact_map_is_for_functions_of_the_first_noise(monkeypatch):
    monkeypatch.setattr(evaluation, "_exact_samples", lambda *a: np.zeros((32, 2)))
    flow_map = AverageVelocityMap(lambda x, s, t, cond: x, LinearPath())
    dataset = DATA["eight-gaussians"](n=64).load()
    rows = []
    for name, nfes in {"restart": [1, 3], "adaptive": [3]}.items():
        drawings = [drawing_of(SAMPLERS[name], flow_map.path, nfe) for nfe in nfes]
        rows += evaluate_map(flow_map, dataset, {name: drawings}, n=32, quick=True)
    assert [(row["sampler"], row["steps"], "map_error" in row) for row in rows] == [
        ("restart", 1, True), ("restart", 3, False), ("adaptive", 1, True),
    ]  # fmt: skip
    assert [row["nfe"] for row in rows[:2]] == [1, 3] and rows[2]["nfe"] > 3


def of_two_classes(n):
    """Examples that are their own label, sorted by class as a folder of pictures is."""
    labels = np.repeat([0, 1], n // 2).astype(np.int32)
    return Dataset(
        name="own", kind="points", shape=(2,), labels=labels, num_classes=2,
        class_names=("0", "1"), examples=np.tile(labels[:, None], 2).astype(np.float32),
    )  # fmt: skip


def test_data_that_take_more_than_a_gigabyte_are_compared_with_some_of_all_classes(monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_BYTES", 100 * 2 * 4)
    dataset = of_two_classes(400)
    assert evaluation.samples_to_measure(dataset) == 100
    chosen = evaluation.reference_index(dataset)
    values = evaluation.reference_values(dataset)
    assert len(values) == 100 and np.array_equal(values[:, 0], dataset.labels[chosen])
    assert np.bincount(dataset.labels[chosen]).tolist() == [50, 50]
    row = evaluation.floor_row(dataset, 100, quick=True)
    assert row["n"] == 50 and row["accuracy"] == 1  # labels go with their examples


def test_data_on_disk_are_compared_with_evenly_spaced_ones(monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_SAMPLES", 10)
    whole = of_two_classes(400)
    lazy = dataclasses.replace(whole, examples=whole.examples[:0], source=whole.examples)
    assert np.bincount(whole.labels[evaluation.reference_index(lazy)]).tolist() == [5, 5]
    assert len(evaluation.reference_index(whole)) == 400


@pytest.mark.parametrize("n, enough", [(1, False), (7, False), (8, True)])
def test_few_examples_are_not_measured(n, enough):
    dataset = dataclasses.replace(of_two_classes(8), labels=None, num_classes=0)
    dataset = dataclasses.replace(dataset, examples=dataset.examples[:n])
    assert evaluation.measurable(dataset) == enough
    if enough:
        evaluation.floor_row(dataset, n, quick=True)
    else:
        with pytest.raises(UserError, match=f"^too few examples .*: {n}, where it takes 8 at"):
            evaluation.check_measurable(dataset)
