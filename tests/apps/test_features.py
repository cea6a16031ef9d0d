"""apps.features as a user calls it, and what opens its runs."""

import json

import pytest

from apps import eval as eval_app
from apps import features as features_app
from apps import train as train_app
from core.errors import UserError

pytestmark = pytest.mark.slow

TINY = [
    "--encoder.width", "4", "--encoder.levels", "1", "--batch", "16", "--steps", "4",
    "--dispatch", "2", "--json",
]  # fmt: skip


@pytest.mark.parametrize("task", ["mae", "classifier"])
def test_a_run_leaves_what_every_run_leaves(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = features_app.main([*TINY, "--task", task])
    assert result is not None and result["step"] == 4
    folder = tmp_path / "runs" / "features-digits"
    summary = json.loads((folder / "summary.json").read_text())
    assert ("accuracy" in summary) == (task == "classifier") and summary["n"] == 179
    assert (folder / "samples" / "final.png").exists() == (task == "mae")
    assert (folder / "config.toml").exists() and (folder / "metrics.jsonl").exists()
    again = features_app.main(["--config", str(folder / "config.toml"), "--json"])
    assert again is not None and again["loss"] == result["loss"]  # complete: nothing is trained
    with pytest.raises(UserError, match="holds another run"):
        features_app.main([*TINY, "--task", task, "--seed", "1"])


def test_a_run_of_drift_is_measured_on_features(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    features_app.main(TINY)
    drift = [
        "--plugin", "drift", "--data", "digits", "--net.width", "16", "--net.depth", "1",
        "--plugin.guidance", "3", "--plugin.kappa", "2", "--batch", "64",
        "--steps", "2", "--dispatch", "2", "--evals", "1", "--run", "run",
    ]  # fmt: skip
    train_app.main(drift)
    flags = ["--run", "run", "--nfe", "1", "--n", "40", "--features", "runs/features-digits"]
    plain = eval_app.main([*flags, "--json"])
    guided = eval_app.main([*flags, "--guidance", "3", "--json"])
    assert plain is not None and guided is not None
    assert plain["rows"][0]["features"] == "runs/features-digits"
    assert guided["sampling"]["guidance"] == (3.0,) and guided["rows"][0]["guidance"] == 3
    with pytest.raises(UserError, match="unknown feature set or folder of features"):
        eval_app.main([*flags[:-1], "runs/nowhere"])
    with pytest.raises(UserError, match="--guidance must be at least 1"):
        eval_app.main([*flags, "--guidance", "0.5"])


def test_features_that_are_not_there_are_refused_in_one_line_before_training(run_app, tmp_path):
    done = run_app("train", "--plugin", "drift", "--data", "digits", "--plugin.features", "nowhere")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "no features in nowhere" in done.stderr
    assert not (tmp_path / "runs").exists()
