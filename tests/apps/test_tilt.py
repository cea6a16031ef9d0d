"""`apps.tilt` as a user runs it."""

import json

import numpy as np

from tests.apps.conftest import POINTS


def test_a_run_is_steered_and_mistakes_are_one_line(run_app, tmp_path):
    assert run_app("train", *POINTS, "--run", "run").returncode == 0
    flags = ("--run", "run", "--n", "8", "--islands", "3", "--seed", "1", "--show", "4")
    tilted = run_app(
        "tilt", *flags, "--plugin", "snis", "smc", "bon", "--steps", "3", "--reward", "target:5",
        "--json",
    )  # fmt: skip
    assert tilted.returncode == 0, tilted.stderr
    result = json.loads(tilted.stdout.splitlines()[-1])
    rows = {row["method"]: row for row in result["rows"]}
    assert set(rows) == {"prior", "snis", "smc", "bon"}
    # 24 particles; smc: 3 jumps, and 2 shifts of one evaluation forward and one backward
    assert [rows[name]["evaluations"] for name in ("snis", "smc")] == [24, 24 * (3 + 2 * 3)]
    saved = np.load(tmp_path / "run" / "tilt" / "smc.npz")
    assert saved["samples"].shape == (24, 2)
    np.testing.assert_allclose(saved["weights"].sum(), 1)
    assert (tmp_path / "run" / "tilt" / "samples.png").exists()
    for wrong, message in (
        (("--reward", "brightness"), "images"),
        (("--reward", "python:math:nothing"), "names no function"),
        (("--plugin", "smcc"), "did you mean 'smc'"),
        (("--reward", "target:5", "--n", "0"), "at least 1"),
    ):
        failed = run_app("tilt", *flags[:2], *wrong)
        assert failed.returncode == 2 and message in failed.stderr, failed.stderr
        assert len(failed.stderr.strip().splitlines()) == 1
