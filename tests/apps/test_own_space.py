"""The hyperbolic plane of docs/manifolds.md, in a package of its own that is found by its entry
point."""

import json
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

PAGE = Path(__file__).parents[2] / "docs" / "manifolds.md"
(CODE,) = re.findall(r'```python title="my_plane.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
CHECK = ("--space", "hyperbolic", "--rows", "8192", "--no-gradients", "--json")


def install(folder, code):
    """Lays a package out as an installer does: the module and its entry point."""
    folder.mkdir()
    (folder / "my_plane.py").write_text(code)
    info = folder / "my_plane-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plane\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[portolan.plugins]\nmy-plane = my_plane\n")
    return folder


@pytest.mark.parametrize("plugin", ["mf"])
def test_methods_pass_the_check_in_the_plane(plugin, tmp_path, run_app):
    assert sum(bool(line.strip()) for line in CODE.splitlines()) < 80
    package = install(tmp_path / "site", CODE)
    checked = run_app("check", "--plugin", plugin, *CHECK, path=[package])
    assert checked.stdout, checked.stderr
    (report,) = json.loads(checked.stdout.splitlines()[-1])["plugins"]
    assert report["passed"] and report["checks"]


def test_a_wrong_geodesic_is_caught(tmp_path, run_app):
    wrong = CODE.replace("jnp.cosh(length(u)) * x", "jnp.cosh(0.9 * length(u)) * x")
    assert wrong != CODE
    package = install(tmp_path / "site", wrong)
    checked = run_app("check", "--plugin", "mf", *CHECK, path=[package])
    assert checked.returncode == 1 and "failed: mf" in checked.stderr


def test_a_run_in_the_plane_trains_and_samples(tmp_path, run_app):
    from tests.apps.conftest import TINY

    package = install(tmp_path / "site", CODE)
    flags = ["--plugin", "mf", "--data", "plane", "--data.n", "64", *TINY, "--run", "run"]
    trained = run_app("train", *flags, "--json", path=[package])
    assert trained.returncode == 0, trained.stderr
    sampled = run_app("sample", "--run", "run", "--n", "8", "--steps", "2", path=[package])
    assert sampled.returncode == 0, sampled.stderr
