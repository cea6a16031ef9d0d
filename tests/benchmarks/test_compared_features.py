"""The table of a comparison in a network's features: means over seeds, from files of the runs."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.compared_features import main
from core.errors import UserError

KEPT = Path(__file__).parents[2] / "docs" / "results" / "recipes-digits.json"


class Failed:
    returncode = 1


def comparison(folder, figures, floor=0.5):
    """Runs of `cd` with these distances at one evaluation and twice them at four, a seed each."""
    cells = {c["seed"]: c for c in json.loads(KEPT.read_text())["cells"] if c["plugin"] == "cd"}
    for seed, figure in enumerate(figures):
        run = folder / f"cd-{seed}"
        run.mkdir(parents=True)
        (run / "cell.json").write_text(json.dumps(cells[seed]))
        rows = [{"nfe": 1, "frechet": figure}, {"nfe": 4, "frechet": 2 * figure}]
        found = {"rows": rows, "reference": {"frechet": floor}}
        (run / "eval-efficientnet-lite0.json").write_text(json.dumps(found))


def test_a_row_is_the_mean_over_seeds(tmp_path):
    comparison(tmp_path / "runs", [1.0, 2.0, 6.0])
    table = tmp_path / "table.json"
    found = main(["--folder", str(tmp_path / "runs"), "--table", str(table), "--json"])
    row, floor = found["rows"]
    assert row == {"method": "cd", "FD (1)": "3.00 ± 2.65", "FD (4)": "6.00 ± 5.29", "seeds": 3}
    assert floor["FD (1)"] == "0.50"
    assert json.loads(table.read_text())["runs"]["cd"][2]["frechet"] == {"1": 6.0, "4": 12.0}
    assert "3.00 ± 2.65" in table.with_suffix(".md").read_text()


def test_methods_are_ranked_by_number_and_a_count_that_is_missing_is_measured(
    tmp_path, monkeypatch
):
    comparison(tmp_path / "runs", [11.0])
    other = tmp_path / "runs" / "ct-0"
    shutil.copytree(tmp_path / "runs" / "cd-0", other)
    for name in ("cell.json", "eval-efficientnet-lite0.json"):
        text = (other / name).read_text()
        (other / name).write_text(text.replace('"cd"', '"ct"').replace("11.0", "4.5"))
    found = main(["--folder", str(tmp_path / "runs"), "--json"])["rows"]
    assert [row["method"] for row in found] == ["ct", "cd", "real against real"]
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.append(command) or Failed)
    with pytest.raises(UserError, match="could not measure"):
        main(["--folder", str(tmp_path / "runs"), "--nfe", "2", "--plugins", "ct"])
    assert asked[0][asked[0].index("--nfe") + 1] == "2"


def test_too_few_real_pictures_have_no_row(tmp_path):
    comparison(tmp_path / "runs", [1.0], floor=None)
    (row,) = main(["--folder", str(tmp_path / "runs"), "--json"])["rows"]
    assert row["FD (1)"] == "1.00"


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        main(["--folder", str(tmp_path)])
