"""`apps.export --format onnx`: a graph, and a script that needs NumPy and onnxruntime alone."""

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest

from apps import _onnx as onnx_app
from core.errors import UserError
from core.export import onnx_file
from tests.apps.conftest import POINTS
from tests.apps.inside import run
from tests.apps.test_export import DIGITS, GUIDED, isolated, made

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not all(map(find_spec, ("jax2onnx", "onnx", "onnxruntime"))),
        reason='pip install "portolan[onnx]"',
    ),
]
TEXT = [
    "--plugin", "cat-mf", "--data", "bigram", "--data.n", "64", "--data.length", "6",
    "--data.symbols", "4", "--net", "dit", "--net.width", "8", "--net.depth", "1",
    "--net.heads", "2",
]  # fmt: skip


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    return made(tmp_path_factory.mktemp("points") / "run", *POINTS)


@pytest.mark.parametrize("kind", ["guided digits", "text"])
def test_the_file_is_checked_and_its_script_needs_nothing_else(kind, tmp_path):
    flags = [*DIGITS, *GUIDED] if kind == "guided digits" else TEXT
    folder = made(tmp_path / "run", *flags)
    status, _, result = run("export", "--run", folder, "--format", "onnx", "--nfe", 4, "--json")
    assert status == 0 and result["difference"] < 1e-5 and result["steps"] == 4
    packages = isolated(folder / "onnx" / "example.py", "--n", "6", cwd=tmp_path)
    assert "onnxruntime" in packages and not {"jax", "core", "apps", "onnx"} & set(packages)
    with np.load(tmp_path / "samples.npz") as drawn:
        assert sorted([*drawn]) == sorted([*result["inputs"], "samples"])
        assert len(drawn["samples"]) == 6 and np.isfinite(drawn["samples"]).all()
        if kind == "text":  # shares of symbols
            np.testing.assert_allclose(drawn["samples"].sum(-1), 1, atol=0.05)


WRONG = {
    "platforms": (["--platforms", "tpu"], "--platforms goes with --format jax"),
    "packed": (["--packed", "float16"], "--packed goes with --format jax"),
    "noise on its way": (["--sampler", "restart", "--nfe", "2"], "adds noise on its way"),
    "a file for a folder": (["--out", "file/x"], "cannot write"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_and_exit_status_2(case, points, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    flags, message = WRONG[case]
    status, out, _ = run("export", "--run", points, "--format", "onnx", *flags)
    error = capsys.readouterr().err.splitlines()[-1]
    assert status == 2 and out == ""
    with pytest.raises(UserError, match=message):
        raise UserError(error)


def test_without_the_packages_one_line_says_what_to_install(points, monkeypatch, capsys):
    monkeypatch.setattr(onnx_file, "_found", lambda name: False)
    status, _, _ = run("export", "--run", points, "--format", "onnx")
    error = capsys.readouterr().err
    assert status == 2 and error.count("\n") == 1 and 'pip install "portolan[onnx]"' in error


def test_a_file_that_differs_from_jax_is_not_written(points, tmp_path, monkeypatch, capsys):
    def spoilt(function, about):
        other = dataclasses.replace(function, times=np.array([1.0, 0.5]))
        return onnx_file.to_onnx(other, about)

    monkeypatch.setattr(onnx_app, "to_onnx", spoilt)
    out = tmp_path / "out"
    status, _, _ = run("export", "--run", points, "--format", "onnx", "--out", out)
    assert status == 2 and "differ from JAX's by" in capsys.readouterr().err
    assert not out.exists()
