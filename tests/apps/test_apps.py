"""What the apps print, write and accept: one JSON object for machines, files, help."""

import json
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from apps import check, compare, eval, export, plugins, sample, train
from apps._main import launch
from core.conformance import problems
from core.conformance import rows as conformance
from core.sampling import GRIDS, SAMPLERS
from core.train import toml
from tests.apps.conftest import POINTS
from tests.apps.inside import no_constant, run

pytestmark = pytest.mark.programs(100)  # runs are built, saved and opened

APPS = {
    "train": train, "sample": sample, "eval": eval, "compare": compare, "check": check,
    "plugins": plugins, "export": export,
}  # fmt: skip
IMAGES = [
    "--plugin", "imf", "--data", "arrays", "--net", "dit", "--net.width", "16", "--net.depth", "1",
    "--net.heads", "2", "--net.remat", "none", "--batch", "16", "--steps", "4", "--dispatch", "2",
    "--log-every", "2", "--sample-every", "2", "--save-every", "0", "--evals", "1",
]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of labelled 8x8 images of one channel, and what the app printed."""
    folder, rng = tmp_path_factory.mktemp("trained"), np.random.default_rng(0)
    images = rng.integers(0, 256, (48, 8, 8, 1)).astype(np.uint8)
    np.savez(folder / "data.npz", images=images, labels=np.arange(48) % 3)
    flags = [*IMAGES, "--data.path", folder / "data.npz", "--run", folder / "run", "--json"]
    return folder / "run", run("train", *flags)


@pytest.mark.quick
def test_train_reports_and_leaves_a_complete_folder(trained):
    folder, (status, out, result) = trained
    assert status == 0 and out.count("\n") == 1
    assert set(result) == {"run", "step", "seconds", "samples_per_second"}
    assert result["run"] == str(folder) and result["step"] == 4 and result["seconds"] > 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert {"loss", "grad_norm", "diagonal/residual", "jump/residual"} <= set(lines[0])
    assert toml.read(folder / "config.toml")["plugin"]["name"] == "imf"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["step"] == 4 and [row["nfe"] for row in summary["rows"]] == [1]
    pictures = sorted(path.name for path in (folder / "samples").glob("*.png"))
    assert pictures == ["final_1.png", "step_0000002.png", "step_0000004.png"]


def test_a_complete_run_is_not_trained_again(trained):
    folder, _ = trained
    before = (folder / "metrics.jsonl").read_text()
    _, _, result = run("train", "--config", folder / "config.toml", "--run", folder, "--json")
    assert result["step"] == 4 and result["seconds"] == 0
    assert (folder / "metrics.jsonl").read_text() == before


def draw(folder, out, *flags):
    _, _, result = run("sample", "--run", folder, "--out", out, *flags, "--json")
    with np.load(result["values"], allow_pickle=False) as values:
        return result, {name: values[name] for name in values.files}


def test_samples_have_the_shape_of_the_data_and_repeat_with_their_seed(trained, tmp_path):
    folder, _ = trained
    result, values = draw(folder, tmp_path / "a", "--n", 8, "--seed", 1)
    assert {"run", "sampler", "steps", "nfe", "n", "picture", "values"} <= set(result)
    assert (result["sampler"], result["nfe"], result["n"]) == ("pushforward", 1, 8)
    assert values["samples"].shape == (8, 8, 8, 1) and values["samples"].dtype == np.float32
    assert values["labels"].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    with Image.open(result["picture"]) as picture:
        assert picture.format == "PNG" and min(picture.size) > 8
    _, again = draw(folder, tmp_path / "b", "--n", 8, "--seed", 1)
    assert np.array_equal(values["samples"], again["samples"])
    _, other = draw(folder, tmp_path / "c", "--n", 8, "--seed", 2)
    assert not np.array_equal(values["samples"], other["samples"])


@pytest.mark.slow
def test_one_class_can_be_drawn_with_another_sampler(trained, tmp_path):
    folder, _ = trained
    flags = ["--n", 5, "--label", 2, "--sampler", "heun", "--steps", 2]
    result, values = draw(folder, tmp_path / "one", *flags)
    assert values["labels"].tolist() == [2] * 5 and values["samples"].shape == (5, 8, 8, 1)
    assert (result["sampler"], result["steps"], result["nfe"]) == ("heun", 2, 4)


@pytest.mark.slow
def test_times_and_settings_of_a_sampler_can_be_chosen(trained, tmp_path):
    folder, _ = trained
    flags = ["--n", 4, "--sampler", "gamma", "--gamma", 0.3, "--times", 1, 0.6, 0]
    result, _ = draw(folder, tmp_path / "chosen", *flags)
    assert (result["steps"], result["nfe"], result["settings"]) == (2, 2, {"gamma": 0.3})
    assert np.allclose(result["times"], [1, 0.6, 0])
    other, _ = draw(
        folder, tmp_path / "grid", "--n", 4, "--steps", 2, "--grid", "edm", "--shift", 2
    )
    assert 0.6 < other["times"][1] < 1


@pytest.mark.slow
def test_eval_measures_and_writes_what_it_prints(trained, tmp_path):
    folder, _ = trained
    flags = ["--run", folder, "--nfe", 1, 2, "--n", 24, "--sampler", "pushforward", "restart"]
    status, _, result = run("eval", *flags, "--json")
    assert status == 0
    assert {"run", "reference", "rows"} <= set(result)
    named = {"sampler", "steps", "nfe", "n", "features", "frechet", "accuracy", "w2"}
    assert all(named <= set(row) for row in result["rows"])
    cases = [(row["sampler"], row["nfe"], row["n"]) for row in result["rows"]]
    assert cases == [(s, k, 24) for s in ("pushforward", "restart") for k in (1, 2)]
    assert {"frechet", "accuracy", "w2"} <= set(result["reference"])
    assert json.loads((folder / "eval.json").read_text()) == result
    assert run("eval", *flags, "--out", tmp_path / "e.json")[1] == ""
    assert json.loads((tmp_path / "e.json").read_text())["rows"] == result["rows"]


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, result = run("train", *POINTS, "--dry-run", "--json")
    assert status == 0 and list(tmp_path.iterdir()) == []
    assert {"run", "parameters", "flops", "memory_bytes"} <= set(result)
    assert result["parameters"] > 0 and result["flops"] > 0 and result["memory_bytes"] > 0
    shown = out[: out.rindex("{")]
    assert "[plugin]" in shown and 'name = "imf"' in shown and "width = 16" in shown


# --- Methods and checks ---


def test_plugins_are_listed():
    status, out, result = run("plugins", "--json")
    assert status == 0 and out.count("\n") == 1
    methods = {row["name"]: row for row in result["plugins"]}
    assert {"fm", "mf", "imf"} <= set(methods)
    keys = {"name", "kind", "family", "rule", "supervision", "parameterisation", "source"}
    for row in methods.values():
        assert keys <= set(row) and all(row[key] for key in keys)


@pytest.fixture
def gaussian_only(monkeypatch):
    with jax.enable_x64(True):
        problem = problems()["gaussian"]
    monkeypatch.setattr(conformance, "all_problems", lambda: {"gaussian": problem})


def test_check_reports_every_check_and_leaves_the_float_type_alone(gaussian_only):
    status, out, result = run("check", "--plugin", "fm", "--rows", 512, "--json")
    assert status == 0 and out.count("\n") == 1
    (report,) = result["plugins"]
    assert (report["name"], report["passed"]) == ("fm", True)
    keys = {"name", "kind", "value", "bound", "passed", "control"}
    assert all(keys <= set(entry) for entry in report["checks"])
    kinds = [entry["kind"] for entry in report["checks"]]
    assert kinds[:2] == ["P0", "E0"] and set(kinds[2:]) == {"G0"}
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("flags", [("--json",), pytest.param((), marks=pytest.mark.slow)])
def test_a_failed_check_is_exit_status_1(gaussian_only, monkeypatch, capsys, flags):
    monkeypatch.setattr(conformance, "P0_BOUND", -1.0)
    status, _, result = run("check", "--plugin", "fm", "--rows", 512, "--no-gradients", *flags)
    assert status == 1 and "failed: fm" in capsys.readouterr().err
    assert not flags or result["plugins"][0]["passed"] is False


def test_json_has_null_for_what_is_not_finite(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app"])
    launch(lambda argv: {"a": [float("inf"), 1.5], "b": {"c": float("nan"), "d": True}})
    assert json.loads(capsys.readouterr().out, parse_constant=no_constant) == {
        "a": [None, 1.5],
        "b": {"c": None, "d": True},
    }


# --- Help ---


def help_of(app, capsys, *flags):
    with pytest.raises(SystemExit) as stop:
        APPS[app].main([*flags, "--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("app", APPS)
def test_help_describes_the_flags(app, capsys):
    text = help_of(app, capsys)
    assert "--json" in text and "--help" in text
    if app in ("sample", "eval"):
        assert "--run" in text and all(name in text for name in SAMPLERS)
        assert all(name in text for name in GRIDS)


def test_help_shows_the_flags_of_the_chosen_method_data_and_network(capsys):
    imf = help_of("train", capsys, "--plugin", "imf", "--data", "idx", "--net", "unet")
    fm = help_of("train", capsys, "--plugin", "fm", "--data", "spiral")
    assert "--plugin.head" in imf and "--plugin.head" not in fm
    assert "--data.path" in imf and "--data.path" not in fm
    assert "--net.multipliers" in imf and "--net.multipliers" not in fm
    assert "--plugin.head" in help_of("check", capsys, "--plugin", "imf")
    assert "--plugin.head" not in help_of("check", capsys, "--plugin", "fm")
