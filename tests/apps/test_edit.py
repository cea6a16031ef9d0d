"""`apps.edit`: pictures, values and the errors of the way there and back."""

import json

import numpy as np
import pytest

from apps.edit import main
from core.errors import UserError
from tests.apps.conftest import POINTS
from tests.train.runs import make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edit") / "run"
    make_run(folder, *POINTS, "--plugin.both", "0.5")
    return folder


def test_every_edit_has_a_picture_and_values(run, tmp_path):
    found = main(["--run", str(run), "--n", "3", "--out", str(tmp_path / "o"), "--json"])
    assert found is not None
    assert found["edits"] == ["round-trip", "interpolate", "variations"]
    assert (
        json.loads((tmp_path / "o" / "edit.json").read_text())["round_trip"] == found["round_trip"]
    )
    shapes = {
        edit: np.load(tmp_path / "o" / f"{edit}.npz")["values"].shape for edit in found["edits"]
    }
    assert shapes == {"round-trip": (3, 3, 2), "interpolate": (3, 11, 2), "variations": (3, 5, 2)}
    there = np.load(tmp_path / "o" / "round-trip.npz")["values"]
    errors = np.linalg.norm(there[:, 2] - there[:, 0], axis=1) / np.linalg.norm(there[:, 0], axis=1)
    assert np.isclose(errors.mean(), found["round_trip"], rtol=1e-4)
    assert all((tmp_path / "o" / f"{edit}.png").stat().st_size > 1000 for edit in found["edits"])


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--edit", "classes"], "without classes"),
        (["--sampler", "ancestral"], "no way back"),
        (["--n", "0"], "--n"),
        (["--n", "500"], "fewer than 1,000 examples"),
        (["--noise", "0.5", "0"], "--noise"),
        (["--steps", "0"], "--steps"),
    ],
)
def test_what_cannot_be_edited_says_so(run, tmp_path, flags, word):
    with pytest.raises(UserError, match=word):
        main(["--run", str(run), "--out", str(tmp_path / "o"), *flags])
    assert not (tmp_path / "o").exists()
