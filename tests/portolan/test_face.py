"""The face: what is exported, and that importing it costs nothing."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import portolan as po

FACE = Path(po.__file__)


def declared() -> set[tuple[str, str]]:
    """What the face says to type checkers: `(module, name)`."""
    (block,) = [node for node in ast.parse(FACE.read_text()).body if isinstance(node, ast.If)]
    found = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert all(alias.asname == alias.name for node in found for alias in node.names)
    return {(str(node.module), alias.name) for node in found for alias in node.names}


def test_type_checkers_and_python_see_the_same_names():
    assert {(module, name) for name, module in po._MODULE.items()} == declared()
    assert set(dir(po)) == {name for _, name in declared()} | {"__version__"}


def test_every_name_is_that_of_its_module():
    for module, name in declared():
        assert getattr(po, name) is getattr(import_module(module), name)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        getattr(po, "trian")


def test_importing_the_face_imports_nothing_else():
    code = (
        "import sys; before = set(sys.modules); import portolan; print(set(sys.modules) - before)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    new = {name.split(".")[0] for name in ast.literal_eval(run.stdout)}
    assert "portolan" in new and new <= {"portolan", *sys.stdlib_module_names}


def test_an_error_is_one_line_in_a_notebook_too():
    assert po.UserError("no such run; train one")._render_traceback_() == [
        "error: no such run; train one"
    ]
