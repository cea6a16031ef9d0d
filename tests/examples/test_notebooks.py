"""The notebooks: whole, shown with their outputs, and one of them run again."""

import re
from pathlib import Path

import nbformat
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NAMES = ["distil", "own_method", "steer", "train"]


def code_cells(name: str) -> list:
    notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_these_are_the_notebooks():
    assert sorted(path.stem for path in EXAMPLES.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_was_run_from_top_to_bottom_and_shows_pictures(name):
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    text = re.sub(r'"image/png": "[^"]*"', "", str(outputs))
    assert not re.search(r"/tmp/\w|Traceback|Warning", text)


@pytest.mark.ci
@pytest.mark.slow
def test_the_notebook_of_steering_runs():
    """A cell that raises ends the run with `CellExecutionError`."""
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "steer.ipynb", as_version=4)
    root = {"metadata": {"path": str(EXAMPLES.parent)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=root).execute()
    printed = "".join(o.text for o in notebook.cells[-1].outputs if o.output_type == "stream")
    mean = [float(x) for x in re.findall(r"-?\d+\.\d+", printed.splitlines()[0])]
    assert mean[:2] == pytest.approx(mean[2:], abs=0.1)
