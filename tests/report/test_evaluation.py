"""Rows of the table of a map."""

import numpy as np

from core.data import DATA
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
