"""The tables on the pages are those that the command writes."""

import shutil

import pytest

from benchmarks.overview import RESULTS
from benchmarks.tables import comparison, main
from core.errors import UserError

DOCS = RESULTS.parent
METHOD = {
    "plugin": "imf",
    "seeds": [0, 1],
    "quality": {"w2": {"1": {"mean": 2.0, "std": 0.25, "count": 2}}},
}
TAUGHT = {
    "plugin": "pid",
    "seeds": [0],
    "quality": {"w2": {"4": {"mean": 1.0, "std": None, "count": 1}}},
}


@pytest.fixture
def docs(tmp_path):
    return shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("*.png", "*.gif"))


def test_all_tables_are_up_to_date(docs):
    assert main(["--docs", str(docs), "--json"]) == {"changed": []}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page, figure, wrong",
    [
        (
            "methods/lagrangian.md",
            "| `lsd` | checkerboard | 3,000 |",
            "| `lsd` | checkerboard | 3,001 |",
        ),
        ("methods/meanflow.md", "| `mf` | `--plugin", "| `mf` | `--plugins"),
        ("results.md", "| `drift` | data | ", "| `drift` | data | 9"),
        ("results/recipes-digits.md", "| lsd | 0.4", "| lsd | 0.5"),
        ("results/overview.md", "| imf | data | ", "| imf | data | 1"),
    ],
    ids=["recipes", "defaults", "results", "comparison", "overview"],
)
def test_a_table_that_was_changed_is_written_again(docs, page, figure, wrong):
    path = docs / page
    right = path.read_text()
    assert figure in right
    path.write_text(right.replace(figure, wrong))
    assert main(["--docs", str(docs), "--json"]) == {"changed": [str(path)]}
    assert path.read_text() == right


def test_methods_from_data_come_before_those_with_a_teacher():
    table = comparison({"methods": [TAUGHT, METHOD], "reference": {"w2": 0.5}}, "w2")
    assert table.splitlines()[2:] == [
        "| `imf` | data | 2 | 2.00 ± 0.25 |  |",
        "| `pid` | teacher | 1 |  | 1.00 |",
        "| real against real |  |  | 0.500 | 0.500 |",
    ]


def test_without_results_it_says_where_it_runs(tmp_path):
    with pytest.raises(UserError, match="has no results; run this in a checkout"):
        main(["--docs", str(tmp_path)])
