"""The table of all methods has the figures of the comparisons, and no others."""

import json

from benchmarks.overview import RESULTS, main, spots
from core.methods import plugins


def test_the_table_in_the_docs_is_what_the_command_writes(tmp_path):
    main(["--table", str(tmp_path / "overview.json")])
    for name in ("overview.json", "overview.md"):
        assert (tmp_path / name).read_text() == (RESULTS / name).read_text()


def test_every_method_has_a_row_with_its_own_figures():
    rows = {
        row["method"]: row for row in json.loads((RESULTS / "overview.json").read_text())["rows"]
    }
    images = {name: plugin for name, plugin in plugins().items() if not plugin.tokens}
    assert set(images) - set(rows) == {"mfm", "rwfm", "rwmf", "vfm"}
    assert rows["dmd"]["from"] == "map"
    digits = json.loads((RESULTS / "recipes-digits.json").read_text())["methods"]
    found = next(each for each in digits if each["plugin"] == "lsd")["quality"]["frechet"]
    assert rows["lsd"]["digits, 4"] == found["4"]["mean"]
    assert rows["lsd"]["from"] == "data" and rows["pid"]["from"] == "teacher"


def test_the_cost_of_a_method_is_that_of_its_training_and_of_its_teacher():
    digits = json.loads((RESULTS / "recipes-digits.json").read_text())["methods"]
    found = next(each for each in digits if each["plugin"] == "pid")
    taught = {spot.name: spot for spot in spots("digits", "teacher", 1)}
    assert found["teacher"]["flops"] > 0
    assert taught["pid"].x == found["flops"] + found["teacher"]["flops"]
    assert taught["pid"].y == found["quality"]["frechet"]["1"]["mean"]
    assert not set(taught) & {spot.name for spot in spots("digits", "data", 1)}
    assert "pid" not in {spot.name for spot in spots("digits", "teacher", 4)}  # of one step alone
