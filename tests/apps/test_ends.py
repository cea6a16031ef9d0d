"""Commands on runs whose samples start from data, or from noise that went with the data."""

import numpy as np
import pytest

from apps import eval as eval_app
from apps import export as export_app
from apps import sample as sample_app
from apps import tilt as tilt_app
from core.data.starts import start_values
from core.errors import UserError
from core.train.run import open_run
from tests.apps.conftest import TINY
from tests.train.runs import make_run

pytestmark = pytest.mark.slow  # runs are built, saved and opened
SMALL = [*TINY, "--plugin", "fm", "--data", "two-moons", "--data.n", "300"]
SOURCE = ["--source", "eight-gaussians", "--source.n", "200"]


@pytest.fixture(scope="module")
def moved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ends") / "run"
    make_run(folder, *SMALL, *SOURCE)
    return str(folder)


@pytest.fixture(scope="module")
def coupled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ends") / "run"
    make_run(folder, *SMALL, "--coupling", "exact")
    return str(folder)


def starts(moved, *flags):
    sample_app.main(["--run", moved, "--n", "6", "--out", f"{moved}/x", *flags])
    with np.load(f"{moved}/x.npz") as found:
        return found["starts"], found["samples"]


def test_samples_start_from_the_source_or_from_a_file(moved, tmp_path):
    own, samples = starts(moved)
    np.testing.assert_array_equal(own, start_values(open_run(moved).starts, 6, 0))
    assert not np.array_equal(own, starts(moved, "--seed", "1")[0])
    np.savez(tmp_path / "x.npz", x=own[:4])
    given, again = starts(moved, "--from", f"{tmp_path}/x.npz")
    np.testing.assert_array_equal(given, own[[0, 1, 2, 3, 0, 1]])
    np.testing.assert_allclose(again[:4], samples[:4], atol=1e-5)
    assert eval_app.main(["--run", moved, "--n", "64", "--nfe", "1", "--json"])["rows"][0]["w2"] > 0


REFUSED = [
    (sample_app, ["--sampler", "ancestral"], "adds noise on its way, .* had data in its place"),
    (sample_app, ["--guidance", "2"], "takes velocities for scores"),
    (sample_app, ["--from", "no.npz"], "no such file; .* with --from FILE"),
    (eval_app, ["--from", "no.npz"], "no such file; .* with --from FILE"),
    (eval_app, ["--sampler", "churn", "--nfe", "3"], "adds noise on its way"),
    (tilt_app, ["--reward", "linear"], "steering starts from Gaussian noise"),
    (export_app, [], "starts from examples of .* and what is exported starts from noise"),
]


@pytest.mark.parametrize("app, flags, message", REFUSED)
def test_what_needs_noise_is_refused_in_one_line(app, flags, message, moved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        app.main(["--run", moved, *flags])
    assert "\n" not in str(error.value)


def test_examples_of_another_shape_are_no_start(moved, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 3), np.float32))
    with pytest.raises(UserError, match=r"examples of shape \(3,\), not \(2,\)"):
        sample_app.main(["--run", moved, "--from", f"{tmp_path}/x.npz"])


def test_a_run_of_coupled_noise_starts_from_noise_and_adds_none(coupled, tmp_path):
    with pytest.raises(UserError, match="fm starts from noise, not from examples: leave"):
        sample_app.main(["--run", coupled, "--from", f"{tmp_path}/x.npz"])
    with pytest.raises(UserError, match=r"goes with the data \(apps.train --coupling\)"):
        sample_app.main(["--run", coupled, "--sampler", "euler-maruyama"])


def test_the_exact_map_of_independent_noise_is_no_yardstick_for_coupled_noise(tmp_path):
    flags = [*TINY, "--plugin", "fm", "--data", "eight-gaussians", "--data.n", "300"]
    make_run(tmp_path / "plain", *flags)
    make_run(tmp_path / "coupled", *flags, "--coupling", "exact")
    rows = {
        name: eval_app.main(["--run", str(tmp_path / name), "--n", "64", "--nfe", "1", "--json"])[
            "rows"
        ][0]
        for name in ("plain", "coupled")
    }
    assert "map_error" in rows["plain"] and "map_error" not in rows["coupled"]
