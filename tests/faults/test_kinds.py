"""Runs of every kind that keeps something of its own: killed anywhere, and going on, they end where
an undisturbed one does, with the same arrays and the same log.

Kinds: a queue of examples, a second player, batches in pieces, targets that are averages, pairs of
a teacher, a run that went back. The long set kills each `KILLS` times; `SWEEP=200` in the
environment so many times.
"""

import os
import shutil

import numpy as np
import pytest

from tests.apps.conftest import POINTS, TINY
from tests.faults.sweep import Children, built
from tests.faults.test_sweep import TRAIN, metrics, state

KILLS = 12
TOY = [*POINTS[2:]]
KINDS = {
    "average velocity": TRAIN,
    "queue": ["--plugin", "drift", *TOY],
    "two players": ["--plugin", "ctm", "--teacher", "TEACHER", "--plugin.gan", "1", *TOY],
    "pieces": [*POINTS, "--accumulate", "4"],
    "average as target": ["--plugin", "ct", "--plugin.target-decay", "0.9", *TOY],
    "pairs": ["--plugin", "reflow", "--teacher", "TEACHER", "--plugin.pairs", "64", *TOY],
    "going back": ["--plugin", "fm", "--data", "arrays", "--data.path", "HUGE", *TINY,
                   "--on-nan", "rollback"],
}  # fmt: skip


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    shim = built(tmp_path_factory.mktemp("shim"))
    if shim is None:
        pytest.skip("no C compiler")
    with Children(shim) as parent:
        yield parent


@pytest.fixture(scope="module")
def places(children, tmp_path_factory):
    """What stands for TEACHER and HUGE: a run, and points of which one makes its batch overflow."""
    folder = tmp_path_factory.mktemp("given")
    ended = children.run("train", [*POINTS, "--run", str(folder / "run")], folder)
    assert ended.status == 0, ended.err
    points = np.random.default_rng(0).normal(size=(256, 2)).astype(np.float32)
    points[0] = 1e30
    np.save(folder / "huge.npy", points)
    return {"TEACHER": str(folder / "run"), "HUGE": str(folder / "huge.npy")}


def killed_at(calls):
    """The numbers of the calls at which a run is killed."""
    most = int(os.environ.get("SWEEP", KILLS))
    return np.unique(np.linspace(1, calls, min(most, calls)).round().astype(int)).tolist()


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_of_any_kind_goes_on_after_a_kill(kind, children, places, tmp_path):
    flags = [places.get(flag, flag) for flag in KINDS[kind]]
    whole = tmp_path / "whole"
    ended = children.run("train", [*flags, "--run", str(whole)], whole)
    assert ended.status == 0, ended.err
    if kind == "going back":
        assert "roll" in ended.err or "back" in ended.err, ended.err
    wanted, lost = (state(whole), metrics(whole)), []
    calls = killed_at(ended.calls)
    for at in calls:
        run = tmp_path / f"kill{at}"
        again = [*flags, "--run", str(run)]
        died = children.run("train", again, run, at)
        ended = children.run("train", again, run)
        if died.status != -9 or ended.status:
            lost.append((at, died.status, ended.status, ended.err[-500:]))
        elif (state(run), metrics(run)) != wanted:
            lost.append((at, "another end"))
        shutil.rmtree(run)
    print(f"{kind}: {len(calls)} kills, {len(lost)} lost")
    assert lost == []
