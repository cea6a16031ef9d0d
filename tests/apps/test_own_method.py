"""The methods of docs/plugin.md, each in a package of its own that is found by its entry point."""

import json
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "plugin.md"


def block(title):
    """The code of the page under this title."""
    (code,) = re.findall(rf'```\w+ title="{title}"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    return code


SHORT, LONG = block("my_method.py"), block("my_long_method.py")


def install(folder, code):
    """Lays the package of the page out as an installer does: the module and its entry points."""
    project = tomllib.loads(block("pyproject.toml"))
    ((module,),) = [project["tool"]["setuptools"]["py-modules"]]
    ((group, entries),) = project["project"]["entry-points"].items()
    folder.mkdir()
    (folder / f"{module}.py").write_text(code)
    info = folder / "my_method-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-method\nVersion: 0.1\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


CHECK = ("--rows", "2048", "--json")


def passed(checked):
    """Whether each method that was checked has passed."""
    assert checked.stdout, checked.stderr
    return [report["passed"] for report in json.loads(checked.stdout.splitlines()[-1])["plugins"]]


@pytest.mark.ci
def test_the_short_method_is_listed_trained_and_checked(tmp_path, run_app):
    from tests.apps.conftest import TINY

    assert sum(bool(line.strip()) for line in SHORT.splitlines()) <= 20
    package = install(tmp_path / "site", SHORT)
    listed = run_app("plugins", "--json", path=[package])
    cards = {card["name"]: card for card in json.loads(listed.stdout.splitlines()[-1])["plugins"]}
    assert {"fm", "mf", "imf", "mine"} <= set(cards)
    assert cards["mine"]["family"] == "my method" and cards["mine"]["cost"] == 3.5
    flags = ["--plugin", "mine", "--plugin.diagonal", "0.25", "--data", "two-moons", *TINY]
    trained = run_app("train", *flags, "--json", path=[package])
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["step"] == 8
    assert passed(run_app("check", "--plugin", "mine", *CHECK, path=[package])) == [True]


def test_the_long_method_passes_the_check(tmp_path, run_app):
    package = install(tmp_path / "site", LONG)
    assert passed(run_app("check", "--plugin", "mine-long", *CHECK, path=[package])) == [True]


@pytest.mark.parametrize("code, name", [(SHORT, "mine"), (LONG, "mine-long")])
def test_a_wrong_sign_is_caught(code, name, tmp_path, run_app):
    wrong = code.replace("row.v + (row.t - row.s)", "row.v - (row.t - row.s)")
    assert wrong != code
    package = install(tmp_path / "site", wrong)
    checked = run_app("check", "--plugin", name, "--rows", "2048", path=[package])
    assert checked.returncode == 1
    assert f"failed: {name}" in checked.stderr


def test_a_package_that_does_not_import_is_one_line(tmp_path, run_app):
    package = install(tmp_path / "site", "import nothing_of_that_name")
    result = run_app("plugins", path=[package])
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "my-method" in result.stderr
