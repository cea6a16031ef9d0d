"""Each table of figures in the documentation has the file that it was read from beside it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
NUMBER = re.compile(
    r"^[*`~]*-?\d[\d,]*(\.\d+)?(e-?\d+)?( ?± ?[\d.e-]+)?[%x*`]*( ?([kMG]i?B|bytes|m?s))?$"
)
NAMED = re.compile(r"results/([\w-]+)\.(?:json|md)")
GENERATED = "Defaults by kind of data"
"""Tables of flags, which `apps.plugins --presets` prints."""
NO_FIGURES = {
    ("samplers.md", "All of them"),
    ("scaling.md", "On paper: iMF, XL/2, ImageNet-256"),
}
"""Tables of orders and of plans: nothing in them was measured."""
SETS = ("checkerboard", "digits")
"""Those of the table of methods."""
PAGE_ALONE = {
    ("export.md", "Sizes"),
    ("methods/distribution.md", "Measurements"),
    ("methods/drifting.md", "`drift`"),
    ("methods/guidance.md", "Learned in training"),
    ("methods/tilting.md", "`vfm`"),
    ("methods/tilting.md", "Measured"),
    ("performance.md", "CPU, two cores"),
    ("scaling.md", "Memory of one device"),
    ("tilt.md", "A reward without a gradient"),
}
"""Sections whose figures stand in the page alone. None may be added."""


@dataclass(frozen=True)
class Section:
    page: str
    title: str
    text: str

    @property
    def measured(self) -> bool:
        """Whether it has a table with three decimal numbers, or of which a third are numbers."""
        for table in re.findall(r"(?:^\|.*\n)+", self.text, re.MULTILINE):
            rows = [line.strip("|\n").split("|") for line in table.splitlines()[2:]]
            cells = [cell.strip() for row in rows for cell in row[1:]]
            found = [cell for cell in cells if NUMBER.match(cell)]
            if len(found) > len(cells) / 3 or sum("." in cell for cell in found) >= 3:
                return True
        return False


def sections():
    for path in sorted(DOCS.rglob("*.md")):
        page = str(path.relative_to(DOCS))
        if page.startswith("results/"):
            continue
        parts = re.split(r"^#+ (.*)$", path.read_text() + "\n", flags=re.MULTILINE)
        for title, text in zip(parts[1::2], parts[2::2]):
            yield Section(page, title, text)


MEASURED = [
    one
    for one in sections()
    if one.measured and one.title != GENERATED and (one.page, one.title) not in NO_FIGURES
]


@pytest.mark.parametrize("section", MEASURED, ids=lambda one: f"{one.page}#{one.title}")
def test_a_table_of_figures_names_a_file_that_is_there(section):
    names = NAMED.findall(section.text)
    if (section.page, section.title) in PAGE_ALONE:
        assert not names, "it has a file by now: take it off the list"
        return
    assert names, "name the JSON of the table: docs/results/NAME.json"
    for name in names:
        assert json.loads((RESULTS / f"{name}.json").read_text())


def test_the_list_of_tables_without_a_file_has_no_other():
    assert {(one.page, one.title) for one in MEASURED} >= PAGE_ALONE
    assert len(MEASURED) > 15


@pytest.mark.parametrize("page", sorted(RESULTS.glob("*.md")), ids=lambda path: path.stem)
def test_each_page_of_results_stands_beside_its_json(page):
    assert json.loads(page.with_suffix(".json").read_text())


def test_every_file_of_results_that_is_named_is_there():
    named = {
        (path.name, file)
        for path in [ROOT / "README.md", *DOCS.rglob("*.md")]
        for file in re.findall(r"results/([\w-]+\.(?:json|md))", path.read_text())
    }
    assert not [one for one in named if not (RESULTS / one[1]).exists()] and len(named) > 20


def test_the_readme_says_how_many_methods_are_measured_side_by_side():
    """All of the table of methods, and how many on each set."""
    readme = (ROOT / "README.md").read_text()
    counts = r"are all measured, (\d+) on a checkerboard and (\d+) on digits"
    said = re.search(rf"The (\d+) of points and pictures {counts}", readme)
    rows = json.loads((RESULTS / "overview.json").read_text())["rows"]
    points, digits = ({r["method"] for r in rows if f"{data}, 1" in r} for data in SETS)
    assert said and [int(n) for n in said.groups()] == [len(rows), len(points), len(digits)]
    assert points | digits == {r["method"] for r in rows}


def test_files_that_the_readme_of_configs_names_are_there():
    text = (ROOT / "configs" / "README.md").read_text()
    named = re.findall(r"`([\w-]+/[\w.-]*)`", text)
    assert named and all((ROOT / "configs" / name).exists() for name in named)
    assert "configs/NAME" not in text
