"""The table of all methods has the figures of the comparisons, and no others."""

import json
import re

from benchmarks.overview import LABELS, RESULTS, family_page, main, spots
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


def test_pages_say_why_where_sixteen_evaluations_are_worse_than_four():
    """A paragraph of the family's page that has the method's name and speaks of 16 evaluations."""
    rows = json.loads((RESULTS / "overview.json").read_text())["rows"]
    worse = {
        row["method"]
        for row in rows
        for data in LABELS
        if row.get(f"{data}, 16", 0.0) > 1.1 * row.get(f"{data}, 4", float("inf"))
    }
    assert {"facm", "cd", "imm"} <= worse
    for name in worse:
        page = (RESULTS.parent / "methods" / family_page(plugins()[name].card.family)).read_text()
        said = [
            part for part in page.split("\n\n") if f"`{name}`" in part and not part.startswith("|")
        ]
        assert any(re.search(r"\b16\b|[Ss]ixteen", part) for part in said), name
