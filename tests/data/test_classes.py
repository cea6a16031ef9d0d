"""Classes by name: labels that are texts, and names of classes that are numbers."""

import numpy as np
import pytest

from core.data import ArraysData
from core.data.summary import summary
from core.errors import UserError

X = np.random.default_rng(0).normal(size=(5, 3))
NAMES = np.array(["tern", "gull", "tern", "auk", "tern "])


def load(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", x=X, **arrays)
    return ArraysData(str(tmp_path / "a.npz")).load()


@pytest.mark.parametrize("labels", [NAMES, NAMES.astype("S8")])
def test_names_are_classes_in_the_order_of_the_alphabet(tmp_path, labels):
    data = load(tmp_path, labels=labels)
    assert data.class_names == ("auk", "gull", "tern") and data.num_classes == 3
    assert data.labels is not None and data.labels.tolist() == [2, 1, 2, 0, 2]
    assert summary(data)[1] == "3 classes: auk 1, gull 1, tern 3"


def test_names_beside_numbers(tmp_path):
    data = load(tmp_path, y=[0, 1, 0, 1, 0], class_names=["plain", "striped", "none seen"])
    assert data.class_names == ("plain", "striped", "none seen")
    assert data.labels is not None and data.labels.tolist() == [0, 1, 0, 1, 0]
    assert data.notes[0].startswith("1 class has no example (2)")


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"labels": NAMES[:4]}, "4 labels for 5 examples"),
        ({"labels": np.where(NAMES == "auk", " ", NAMES)}, "label of example 3 is empty"),
        ({"labels": NAMES.reshape(5, 1)}, r"labels of shape \(5, 1\); give one name"),
        ({"labels": np.full(5, b"\xff\xfe")}, "no UTF-8"),
        ({"y": [0, 1, 2, 0, 1], "class_names": ["a", "b"]}, "label 2 of example 2 is outside 0..1"),
        ({"y": [0] * 5, "class_names": ["a", "a"]}, "class_names has 'a' twice"),
        ({"y": [0] * 5, "class_names": [1, 2]}, "class_names of shape .* and type int64"),
    ],
)
def test_names_that_are_none(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, **arrays)
    assert "\n" not in str(caught.value)


def test_a_number_of_classes_beside_names(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, labels=NAMES)
    with pytest.raises(UserError, match="3 different names and 4 classes"):
        ArraysData(str(tmp_path / "a.npz"), num_classes=4).load()
