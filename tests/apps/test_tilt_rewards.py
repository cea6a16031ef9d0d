"""`apps.tilt` with rewards that need a classifier, and the list of rewards."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from apps import features as features_app
from apps import tilt as tilt_app
from core.errors import UserError
from core.train.build import build
from core.train.cli import parse
from core.train.run import Run as CoreRun
from portolan.runs import Run

pytestmark = pytest.mark.slow

CLASSIFIER = [
    "--task", "classifier", "--encoder.width", "4", "--encoder.levels", "1", "--batch", "16",
    "--steps", "2", "--dispatch", "2", "--run", "classifier",
]  # fmt: skip
MAP = ["--plugin", "imf", "--data", "digits", "--net.width", "8", "--net.depth", "1"]
SMALL = ["--run", "map", "--plugin", "snis", "--n", "8", "--islands", "2", "--show", "2", "--json"]


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    """A classifier of digits, barely trained, a second folder with the same, and a run of a map."""
    folder = tmp_path_factory.mktemp("classified")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        features_app.main(CLASSIFIER)
        shutil.copytree("classifier", "judge")
        (folder / "map").mkdir()
        (folder / "map" / "config.toml").write_text('plugin = "imf"\n')
    return folder


@pytest.fixture(scope="module")
def untrained():
    """An untrained map of digits in the place of an opened run."""
    config = parse(MAP)
    whole = build(config)
    spec, flow_map = whole.dataset.spec, whole.method.flow_map
    return Run(CoreRun(Path("map"), config, spec, 0, flow_map, "pushforward"))


@pytest.fixture
def in_place(classified, untrained, monkeypatch):
    monkeypatch.chdir(classified)
    monkeypatch.setattr(tilt_app, "open_run", lambda folder, **_: untrained)


def test_a_second_classifier_judges_what_the_first_rewards(in_place):
    asked = ["--reward", "class:3", "--classifier", "classifier", "--label", "3", "--lam", "1"]
    result = tilt_app.main([*SMALL, *asked, "--judge", "judge"])
    assert result is not None
    for row in result["rows"]:
        assert sum(row["classes"]) == pytest.approx(1, abs=1e-3) and len(row["classes"]) == 10
        assert row["success"] == pytest.approx(row["classes"][3], abs=1e-4)
    saved = np.load("map/tilt/snis.npz")
    assert result["rows"][1]["reward"].split()[0].startswith("-")  # a log-probability
    assert saved["weights"].shape == (16,)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--reward", "class:3"], "needs a classifier"),
        (["--reward", "class:3", "--classifier", "map"], "is a run of apps.train"),
        (["--reward", "class:3", "--classifier", "nowhere"], "no features in nowhere"),
        (["--reward", "class:12", "--classifier", "classifier"], "from 0 to 9"),
        (["--reward", "class", "--classifier", "classifier"], "class:K"),
        (
            ["--reward", "class:3", "--classifier", "classifier", "--judge", "./classifier"],
            "another classifier",
        ),
    ],
)
def test_a_classifier_that_does_not_serve_is_one_line(flags, message, in_place):
    with pytest.raises(UserError, match=message) as raised:
        tilt_app.main([*SMALL, "--label", "3", *flags])
    assert "\n" not in str(raised.value)


def test_the_rewards_are_listed_without_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = tilt_app.main(["--rewards", "--json"])
    assert result is not None
    listed = {row["reward"].split(":")[0].split("[")[0]: row for row in result["rewards"]}
    assert {"brightness", "class", "blur", "superres", "smoothness"} <= set(listed)
    assert not listed["compressibility"]["gradient"] and listed["class"]["gradient"]
    assert all(row["what"] for row in result["rewards"])
