"""Points on spheres, tori and in SO(3): every command works on a run of them."""

import json

import numpy as np
import pytest

import portolan
from core.data import DATA
from core.errors import UserError
from tests.apps.inside import run

pytestmark = [pytest.mark.long, pytest.mark.programs(400)]

RNG = np.random.default_rng(0)
TINY = [
    "--plugin", "mf", "--batch", "16", "--steps", "6", "--dispatch", "2", "--sample-every", "0",
    "--save-every", "2", "--nfe", "1", "--net.width", "8", "--net.depth", "1",
]  # fmt: skip


def _unit(n, dim):
    x = RNG.normal(size=(n, dim))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


CASES = {
    "sphere": (RNG.uniform(-80, 80, (60, 2)), 3),
    "torus": (RNG.uniform(-180, 180, (60, 2)), 2),
    "so3": (_unit(60, 4), 4),
}


def _on(space, x):
    if space == "torus":
        return np.abs(x).max() <= np.pi + 1e-6
    return np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("space", CASES)
def test_a_run_trains_goes_on_samples_is_measured_and_exported(space, tmp_path):
    x, dim = CASES[space]
    file, folder = tmp_path / "x.npz", tmp_path / "run"
    np.savez(file, mine=x, y=np.arange(60) % 2)
    flags = [*TINY, "--data", "arrays", "--data.path", file, "--data.array", "mine"]
    flags += ["--data.space", space, "--data.part", "train", "--run", folder, "--json"]
    assert run("train", *flags)[0] == 0
    assert run("train", *flags, "--extend", "--steps", "8")[2]["step"] == 8
    assert f'space = "{space}"' in (folder / "data.toml").read_text()
    status, _, result = run("sample", "--run", folder, "--n", 9, "--label", "1", "--json")
    assert status == 0
    with np.load(result["values"]) as values:
        assert values["samples"].shape == (9, dim) and _on(space, values["samples"])
    for sampler in ("restart", "heun"):
        flags = ["--run", folder, "--n", 9, "--sampler", sampler, "--steps", "2"]
        assert run("sample", *flags)[0] == 0
    assert run("eval", "--run", folder, "--n", 24, "--nfe", "1")[0] == 0
    rows = json.loads((folder / "eval.json").read_text())
    names = {one["metric"] for one in rows["numbers"]}
    assert {"mmd", "mmd2", "nll"} <= names and rows["rows"][0]["n_reference"] == 6
    assert run("export", "--run", folder, "--check", "--out", tmp_path / "out")[0] == 0
    file.unlink()
    opened = portolan.open(folder)
    assert _on(space, opened.sample(5, steps=2))


def test_what_is_flat_only_is_refused_in_one_line(tmp_path, capsys):
    flags = [*TINY, "--data", "sphere-blobs", "--data.n", "64", "--run", tmp_path / "run"]
    for more, line in {
        ("--path", "vp"): "on the sphere the path is that of geodesics: leave out --path vp",
        ("--coupling", "exact"): "--coupling exact takes distances in flat space",
        ("--plugin", "sct"): "sphere",
        ("--plugin.form", "rotation"): "sphere",
    }.items():
        assert run("train", *flags, *more)[0] == 2
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1
    assert run("train", *flags)[0] == 0
    for command, more, line in (
        ("sample", ["--sampler", "dpmpp-2m"], "sphere"),
        ("tilt", ["--reward", "linear:1,0,0"], "Gaussian noise"),
        ("eval", ["--likelihood", "ode"], "nll"),
        ("eval", ["--features", "pooled"], "geodesic distances"),
    ):
        capsys.readouterr()
        assert run(command, "--run", tmp_path / "run", *more)[0] == 2
        said = capsys.readouterr().err
        assert line in said and said.count("\n") == 1, said


def test_held_out_points_of_a_toy_set_are_others():
    flags = DATA["torus-checkerboard"](n=100)
    kept = flags.held_out()
    assert not np.array_equal(kept.load().examples[:50], flags.load().examples[:50])


def test_the_other_end_lies_in_the_same_space(tmp_path):
    settings = {"steps": 2, "batch": 8, "net": {"width": 8, "depth": 1}, "evals": (1,)}
    with pytest.raises(UserError, match="both ends must lie in one space"):
        portolan.train("mf", "sphere-blobs", source="eight-gaussians", **settings)
