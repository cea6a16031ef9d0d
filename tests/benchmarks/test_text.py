"""The table of texts: a row for each method, with figures of samples and of held-out text."""

import json

import numpy as np
import pytest

from benchmarks.text import main


@pytest.mark.long
def test_methods_are_trained_measured_and_shown(tmp_path):
    (tmp_path / "names.txt").write_text("\n".join(f"anna{k}" for k in range(60)))
    main([
        "--cases", "chain", "names", "--methods", "cat-mf", "dfm-psd", "--steps", "2", "--n", "8",
        "--names", str(tmp_path / "names.txt"), "--out", str(tmp_path / "runs"),
        "--table", str(tmp_path / "a.json"), "--samples", str(tmp_path / "a.txt"),
    ])  # fmt: skip
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["cat-mf", "dfm-psd", "cat-mf"]
    assert all(np.isfinite(row[key]) for row in rows for key in ("bits", "nll_4", "nll_text"))
    assert "valid_1" in rows[2] and "valid_1" not in rows[0]
    assert (tmp_path / "a.txt").read_text().count("# pushforward") == 9
