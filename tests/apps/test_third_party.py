"""A package that Portolan has never seen brings a method, by an entry point alone."""

import json
import sys

import pytest

pytestmark = pytest.mark.slow

PYPROJECT = """
[project]
name = "thirdparty"
version = "0.1"
[project.entry-points."portolan.plugins"]
thirdparty = "thirdparty_method"
"""

METHOD = '''
"""A method of one's own: MeanFlow with another name."""
import jax

from core.flow import rules
from core.flow.flow_map import AverageVelocityMap
from core.objectives.objective import FlowMatching, RowKind, Term
from core.objectives.rows import RowObjective
from core.methods import Card, Method, Plugin, register
from core.times.distributions import Uniform
from core.times.pairs import Diagonal, OrderedPair


class Jump(Term):
    def __call__(self, model, target, row):
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, row.v, row.cond)
        return V - jax.lax.stop_gradient(row.v + SIGN * (row.t - row.s) * dV_ds)


@register
class ThirdParty(Plugin):
    """Somebody else's method."""

    card = Card(
        "thirdparty", rule="Eulerian", supervision="sampled pair", source="elsewhere", cost=3.5
    )

    diagonal: float = 0.5
    """Share of rows with s = t."""

    def method(self, net, path, teacher, task, *, key):
        uniform = Uniform()
        kinds = (
            RowKind("diagonal", self.diagonal, Diagonal(uniform), FlowMatching()),
            RowKind("jump", 1 - self.diagonal, OrderedPair(uniform, uniform), Jump()),
        )
        return Method(AverageVelocityMap(net, path), RowObjective(path, kinds, task.num_classes))
'''


def install(folder, sign):
    """Lays the package out as an installer would: the module and its entry points."""
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "thirdparty_method.py").write_text(METHOD.replace("SIGN", sign))
    info = folder / "thirdparty-0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirdparty\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[portolan.plugins]\nthirdparty = thirdparty_method\n")
    return folder


def test_a_third_party_plugin_is_listed_checked_and_trained(tmp_path, run_app):
    from tests.apps.conftest import TINY

    assert sys.version_info >= (3, 11)
    assert len(METHOD.strip().splitlines()) <= 45
    package = install(tmp_path / "site", "1")
    listed = run_app("plugins", "--json", path=[package])
    names = [p["name"] for p in json.loads(listed.stdout.splitlines()[-1])["plugins"]]
    assert {"fm", "mf", "imf", "thirdparty"} <= set(names)
    flags = ["--plugin", "thirdparty", "--plugin.diagonal", "0.25", "--data", "two-moons", *TINY]
    trained = run_app("train", *flags, "--json", path=[package])
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["step"] == 8
    checked = run_app("check", "--plugin", "thirdparty", "--rows", "2048", "--json", path=[package])
    report = json.loads(checked.stdout.splitlines()[-1])["plugins"]
    assert report[0]["passed"], checked.stderr


def test_a_third_party_wrong_sign_is_caught(tmp_path, run_app):
    package = install(tmp_path / "site", "-1")
    checked = run_app("check", "--plugin", "thirdparty", "--rows", "2048", path=[package])
    assert checked.returncode == 1
    assert "failed: thirdparty" in checked.stderr


def test_a_package_that_does_not_import_is_one_line(tmp_path, run_app):
    package = install(tmp_path / "site", "1")
    (package / "thirdparty_method.py").write_text("import nothing_of_that_name")
    result = run_app("plugins", path=[package])
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "thirdparty" in result.stderr
