"""What optimal transport does to pairs, and to the map that is trained on them."""

import pytest

from benchmarks.ends import COUPLINGS, EndsConfig, measured, pair_cost, trained


def figures(task, steps, tmp_path):
    config = EndsConfig(task=task, steps=steps, out=str(tmp_path))
    return {coupling: trained(config, coupling, 0) for coupling in COUPLINGS}


@pytest.mark.long
@pytest.mark.parametrize("task", ["moons-to-gaussians", "three-to-eight"])
def test_coupled_pairs_cost_less_and_their_paths_are_straighter(task, tmp_path):
    found = {name: measured(run) for name, run in figures(task, 400, tmp_path).items()}
    independent, sinkhorn, exact = (found[name] for name in COUPLINGS)
    assert exact["pair_cost"] < sinkhorn["pair_cost"] < independent["pair_cost"]
    assert exact["bend"] < independent["bend"] and sinkhorn["bend"] < independent["bend"]
    assert exact["distance_1"] < independent["distance_1"]


@pytest.mark.slow
def test_threes_are_nearer_to_their_eights_than_to_any(tmp_path):
    """Of digits the pairs alone, without training: at most 0.8 of the cost."""
    costs = {}
    for name, run in figures("three-to-eight", 1, tmp_path).items():
        costs[name] = pair_cost(run)
    assert costs["exact"] < 0.8 * costs["independent"]
    assert costs["exact"] <= costs["sinkhorn"] < costs["independent"]
