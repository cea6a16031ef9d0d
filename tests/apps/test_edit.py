"""`apps.edit`: pictures, values and the errors of the way there and back."""

import json

import numpy as np
import pytest

from apps.edit import main
from core.data.dataset import Dataset
from core.errors import UserError
from portolan.edit_sheets import MADE, STRENGTHS, of_two_classes
from portolan.editing import Editor
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
        (["--edit", "attributes"], "data with classes"),
        (["--edit", "attributes", "--attribute", "3"], "two classes"),
    ],
)
def test_what_cannot_be_edited_says_so(run, tmp_path, flags, word):
    with pytest.raises(UserError, match=word):
        main(["--run", str(run), "--out", str(tmp_path / "o"), *flags])
    assert not (tmp_path / "o").exists()


@pytest.fixture
def affine(monkeypatch):
    """An editor whose noise is an affine function of the examples, whatever their labels."""
    monkeypatch.setattr(Editor, "encode", lambda self, x, labels: 2 * x + 1)
    monkeypatch.setattr(Editor, "decode", lambda self, z, labels: (z - 1) / 2)
    return object.__new__(Editor)


@pytest.fixture
def labelled(rng):
    """Points of three classes at 0, 1 and 5 along each axis."""
    labels = np.arange(60, dtype=np.int32) % 3
    x = np.array([0.0, 1.0, 5.0])[labels, None] + 0.1 * rng.standard_normal((60, 2))
    return Dataset(
        name="three",
        kind="points",
        shape=(2,),
        examples=x.astype(np.float32),
        labels=labels,
        num_classes=3,
        class_names=("a", "b", "c"),
    )


def test_what_sets_classes_apart_is_added_and_no_edited_example_is_in_its_mean(affine, labelled):
    given = of_two_classes(labelled, ("a", "c"), 0, 4)
    assert given.sides is not None and [len(side) for side in given.sides] == [16, 20]
    assert np.array_equal(given.x, labelled.examples[labelled.labels == 0][:4])
    assert not (given.sides[0][:, None] == given.x).all(-1).any()
    sheet, _ = MADE["attributes"](affine, given, ())
    way = given.sides[1].mean(0) - given.sides[0].mean(0)
    wanted = given.x[:, None] + np.array(STRENGTHS)[:, None] * way
    assert np.allclose(sheet.x[:, 1:], wanted, atol=1e-5) and np.all(way > 4)


@pytest.mark.parametrize(
    ("pair", "n", "word"),
    [(("a", "a"), 4, "two different"), (("a", "d"), 4, "'d'"), (("a", "b"), 20, "fewer than 21")],
)
def test_classes_that_cannot_be_compared_are_named(labelled, pair, n, word):
    with pytest.raises(UserError, match=word):
        of_two_classes(labelled, pair, 0, n)
