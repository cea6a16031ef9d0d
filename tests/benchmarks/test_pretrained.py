"""The file that the benchmark's teacher becomes, and its whole way in a few steps."""

import json

import jax
import jax.random as jr
import numpy as np
import pytest

from benchmarks.pretrained import main, sit_arrays
from core.layouts import sit
from core.nets import OfficialDiTConfig
from tests.nets.randomised import randomised

CONFIG = OfficialDiTConfig(
    width=16, depth=2, heads=2, frequencies=4, times="s", clock="reversed", positions="stored"
)


def test_the_teachers_file_has_its_network():
    """Every number of it comes back from the keys of SiT's authors, by the layout's table."""
    net = randomised(CONFIG, (8, 8, 1), 3, jr.key(0))
    arrays = sit_arrays(net)
    found = sit.options_of(arrays, heads=2)
    assert found.config == CONFIG and (found.shape, found.num_classes) == ((8, 8, 1), 3)
    back = found.network(arrays)
    assert jax.tree.structure(back) == jax.tree.structure(net)
    for one, other in zip(jax.tree.leaves(back), jax.tree.leaves(net)):
        np.testing.assert_array_equal(one, other)


@pytest.mark.long
@pytest.mark.programs(2000)
def test_the_whole_way_in_five_steps(tmp_path):
    flags = ["--steps", "5", "--teacher-steps", "5", "--batch", "8", "--n", "100", "--euler", "2"]
    table = tmp_path / "table.json"
    flags += ["--methods", "cd", "--adapters", "--out", str(tmp_path / "runs")]
    main([*flags, "--table", str(table)])
    rows = json.loads(table.read_text())["rows"]
    assert [row["model"] for row in rows] == ["sit, Euler", "cd", "cd", "cd", "data"]
    assert all(np.isfinite(row["frechet"]) for row in rows)
    config = (tmp_path / "runs" / "cd" / "config.toml").read_text()
    assert 'predicts = "linear-velocity"' in config and "second_time = true" in config
