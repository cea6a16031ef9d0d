"""The table of sets on manifolds: its figures come from the part that was held out."""

import json

import numpy as np
import pytest

from benchmarks.manifolds import main


@pytest.mark.long
def test_a_set_is_trained_measured_and_drawn(tmp_path):
    (tmp_path / "sphere").mkdir()
    x = np.random.default_rng(0).uniform(-60, 60, (80, 2))
    np.savez(tmp_path / "sphere" / "earth_events.npz", fire=x)
    main([
        "--files", str(tmp_path), "--sets", "fire", "--steps", "3", "--batch", "8", "--width", "8",
        "--out", str(tmp_path / "runs"), "--table", str(tmp_path / "a.json"),
        "--pictures", str(tmp_path),
    ])  # fmt: skip
    (row,) = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert row["set"] == "fire" and row["test"] == 8
    assert 0 < row["mmd_real"] < row["mmd_noise"] and np.isfinite(row["nll"])
    assert (tmp_path / "manifolds-fire.png").exists()
