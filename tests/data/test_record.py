"""What a run keeps of its data names every change of them."""

import dataclasses

import numpy as np
import pytest

from core.data.dataset import Dataset
from core.data.record import change, conflict, fingerprint, recorded

X = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
LABELS = np.repeat([0, 1], 6).astype(np.int32)
BEGAN = Dataset(
    name="images", kind="image", shape=(4, 4, 3), examples=X, labels=LABELS,
    num_classes=2, class_names=("red", "yellow"), levels=255,
)  # fmt: skip


def now(**other):
    return dataclasses.replace(BEGAN, **other)


def brighter():
    x = X.copy()
    x[7, 0, 0, 0] ^= 1
    return x


THREE = {"num_classes": 3, "class_names": ("blue", "red", "yellow")}
CONFLICTS = {
    "another shape": (
        now(examples=X[:, :2], shape=(2, 4, 3)),
        "images of shape (2, 4, 3) now, images of shape (4, 4, 3) then",
    ),
    "a new class": (now(**THREE), "3 classes now, 2 then (new: blue)"),
    "a class less": (
        now(num_classes=1, class_names=("red",)),
        "1 class now, 2 then (missing: yellow)",
    ),
    "no labels": (
        now(labels=None, num_classes=0, class_names=()),
        "no classes now, 2 then (missing: red, yellow)",
    ),
    "renamed": (
        now(class_names=("yellow", "zred")),
        "class 0 is 'yellow' now and was 'red' then, so that labels would be swapped",
    ),
}
CHANGES = {
    "more": (now(examples=X[:11], labels=LABELS[:11]), "11 examples now, 12 then"),
    "moved": (
        now(labels=np.repeat([0, 1], [5, 7]).astype(np.int32)),
        "5 examples of class red now, 6 then",
    ),
    "a value": (now(examples=brighter()), "12 examples as then, but their values"),
    "swapped labels": (now(labels=LABELS[::-1]), "12 examples as then, but their values or labels"),
    "the same": (now(), None),
}  # fmt: skip


@pytest.mark.parametrize("case", CONFLICTS)
def test_a_network_that_does_not_fit_the_data_any_more(case):
    data, said = CONFLICTS[case]
    assert conflict(recorded(BEGAN), recorded(data)) == said


@pytest.mark.parametrize("case", CHANGES)
def test_data_that_changed_and_still_fit_the_network(case):
    data, said = CHANGES[case]
    assert conflict(recorded(BEGAN), recorded(data)) is None
    found = change(recorded(BEGAN), recorded(data))
    assert found is None if said is None else found is not None and found.startswith(said)


def test_a_record_without_counts_and_fingerprint_compares_what_it_has():
    old = dataclasses.replace(BEGAN.spec, count=0, class_counts=(), fingerprint="")
    assert change(old, recorded(now(examples=brighter()))) is None
    assert conflict(old, recorded(now(**THREE))) is not None


def test_the_fingerprint_of_many_examples_is_taken_of_some(monkeypatch):
    monkeypatch.setattr("core.data.record.MOST_BYTES", 4 * X[0].size)
    monkeypatch.setattr("core.data.record.FEWEST", 4)
    taken = np.linspace(0, 11, 4).astype(int)
    for k in range(12):
        x = X.copy()
        x[k] ^= 1
        assert (fingerprint(now(examples=x)) != fingerprint(BEGAN)) == (k in taken)
