"""Reference statistics as a command, and samples measured against them."""

import json
import shutil

import numpy as np
import pytest

from apps import stats
from core.data import DATA
from core.errors import UserError
from core.metrics import read_reference
from portolan.runs import SHIPPED
from tests.apps.inside import run


def test_statistics_are_those_of_all_examples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, said = run(
        "stats", "--out", "a.npz", "--sample", 10, "--features", "pooled", "--json"
    )
    assert status == 0
    assert (said["n"], said["dim"], said["sample"], said["features"]) == (1797, 64, 10, "pooled")
    x = DATA["digits"]().load().examples.reshape(1797, 64) / 8 - 1
    found = read_reference("a.npz")
    np.testing.assert_allclose(found.statistics.mean, x.mean(axis=0), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.statistics.cov, np.cov(x.T), rtol=1e-10, atol=1e-12)
    rows = x[np.linspace(0, 1796, 10).astype(int)]
    np.testing.assert_allclose(found.sample, rows, atol=1e-3)
    assert (found.features, found.source, found.statistics.n) == ("pooled", "digits", 1797)
    with pytest.raises(UserError, match="is there already; --force replaces it"):
        stats.main(["--out", "a.npz"])


BAD = {
    "--out a.txt": "--out names an .npz file, got 'a.txt'",
    "--sample 60000": "--sample is at most 50,000",
    "--n -1": "must not be negative",
    "--features pixel": "unknown feature set or folder of features 'pixel'",
    "--data digit": "did you mean 'digits'",
    "--data images": "--data.path",
    "--out nothing/../": "--out names an .npz file",
}


@pytest.mark.parametrize("flags", BAD)
def test_bad_flags_are_one_line_and_write_nothing(flags, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=BAD[flags]) as error:
        stats.main(flags.split())
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_a_run_is_measured_against_statistics_with_samples_on_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(SHIPPED / "digits", "run")
    run("stats", "--out", "a.npz", "--sample", 400)
    asked = ["--run", "run", "--nfe", 1, "--n", 300, "--keep-samples"]
    against = [*asked, "--features", "pixels", "pooled", "--stats", "a.npz", "--json"]
    status, _, result = run("eval", *against)
    said = capsys.readouterr().err
    assert status == 0 and "frechet is FD (pixels): " in said and "reference a.npz: n 1,797" in said
    (samples,) = (tmp_path / "run" / "eval").glob("*/samples-*.npy")
    then = samples.stat().st_mtime_ns
    pixels, pooled = result["rows"]
    assert (pixels["features"], pooled["features"]) == ("pixels", "pooled")
    # Some pixels are the same in all digits, so roots of rounding errors enter: 1e-8, not 1e-16.
    assert pixels["frechet"] == pytest.approx(pooled["frechet"], rel=1e-6)
    kids = [one for one in result["numbers"] if one["metric"] == "kid"]
    assert [one["n_reference"] for one in kids[:2]] == [400, 1797]  # the rows in the file, the data
    first = result["numbers"][0]
    assert first["reference"] == "a.npz" and len(first["reference_sha256"]) == 64
    assert result["reference"]["frechet"] == pytest.approx(0, abs=1e-6)
    assert run("eval", *against)[2]["rows"] == result["rows"]
    assert samples.stat().st_mtime_ns == then
    (tmp_path / "run" / "eval" / "notes.txt").write_text("keep")
    status, _, plain = run("eval", *asked, "--remove-samples", "--json")
    assert status == 0 and (tmp_path / "run" / "eval" / "notes.txt").exists()
    assert not list((tmp_path / "run" / "eval").glob("*/*"))
    assert plain["rows"][0]["frechet"] == pytest.approx(pixels["frechet"], rel=1e-6)
    assert json.loads((tmp_path / "run" / "eval.json").read_text()) == plain

    for flags, message in {
        ("--stats", "nothing.npz"): "no such file",
        (
            "--stats",
            "a.npz",
            "--features",
            "pooled",
        ): "made with pixels features, and these are pooled",
        ("--stats", "a.npz", "a.npz"): "one file of statistics more than --features",
        ("--features", "pixels", "pixels"): "names the same features twice",
        ("--classifier", "run"): "is a run of apps.train and holds no features",
    }.items():
        assert run("eval", *asked, *flags)[0] == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ") and message in line
