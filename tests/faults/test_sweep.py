"""Every call that changes a file fails once: by a kill, a full disk, an error of the disk, a short
write. Nothing is lost, and the same command then ends where an undisturbed one does.

The long set sweeps all calls whose failure differs from that of the next, the slow one a few;
`SWEEP=100` in the environment takes so many at even distances. All calls of a training take hours:
with `SWEEP_LOG=FILE` each is a line of that file, and a later call goes on behind those that are
there.
"""

import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.train.checkpoint import Checkpoints
from tests.apps.conftest import POINTS
from tests.faults.sweep import MODES, Children, built

TRAIN = [*POINTS, "--sample-every", "4"]
OTHERS = {
    "sample": ["--n", "16"],
    "eval": ["--n", "32", "--nfe", "1"],
    "export": ["--no-check", "--platforms", "cpu"],
}
FEW = 2


@pytest.fixture(scope="module")
def children(tmp_path_factory):
    shim = built(tmp_path_factory.mktemp("shim"))
    if shim is None:
        pytest.skip("no C compiler")
    with Children(shim) as parent:
        yield parent


@pytest.fixture(scope="module")
def whole(children, tmp_path_factory):
    """An undisturbed run, and how its command ended."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    ended = children.run("train", [*TRAIN, "--run", str(folder)], folder)
    assert ended.status == 0, ended.err
    return folder, ended


def state(folder):
    """The step and the sums of the newest checkpoint: equal only for equal arrays."""
    checkpoints = Checkpoints(folder)
    step = checkpoints.latest()
    sums = checkpoints.sums(step)
    checkpoints.close()
    assert len(sums) > 20
    return step, sums


def metrics(folder):
    """The lines of the log, without the speed."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "samples_per_second"} for line in lines]


def results(folder):
    """What a run leaves, by name: equal for equal runs."""
    return {
        "state": state(folder),
        "metrics": metrics(folder),
        "summary": json.loads((folder / "summary.json").read_text()),
        "pictures": {f.name: f.read_bytes() for f in (folder / "samples").glob("*.png")},
        "config": (folder / "config.toml").read_bytes(),
        "data": (folder / "data.toml").read_bytes(),
        "marker": (folder / "run.json").read_bytes(),
    }


def chosen(ended, mode):
    """The numbers of the calls that fail."""
    calls = ended.struck(mode)
    most = min(int(os.environ.get("SWEEP", len(calls))), len(calls))
    return [calls[i] for i in np.linspace(0, len(calls) - 1, most).round().astype(int)]


def ended_well(ended, mode, at):
    """A kill is a kill, unless threads took fewer calls this time; anything else one line, or no
    harm done."""
    if mode == "kill":
        return ended.status == -9 or (ended.status == 0 and 0 < ended.calls < at)
    errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    return ended.status == 0 or (
        ended.status == 2 and len(errors) == 1 and "Traceback" not in ended.err
    )


def sweep_training(children, whole, folder, mode, calls):
    """The calls after whose failure something was lost, each with why."""
    wanted, lost = results(whole[0]), []
    for at in calls:
        run = folder / f"{mode}{at}"
        lost += [(at, why) for why in lost_at(children, wanted, run, mode, at)]
        shutil.rmtree(run, ignore_errors=True)
    return lost


def lost_at(children, wanted, run, mode, at):
    """What was lost where call `at` of a training failed and the training was then repeated."""
    flags = [*TRAIN, "--run", str(run)]
    ended = children.run("train", flags, run, at, mode)
    lost = []
    if not ended_well(ended, mode, at):
        lost.append(f"status {ended.status}: {ended.err[-900:]}")
    again = children.run("train", flags, run)
    if again.status:
        return [*lost, f"again: status {again.status}: {again.err[-900:]}"]
    found = results(run)
    lost += [f"other {name}" for name in wanted if found[name] != wanted[name]]
    return lost + [f"left {f}" for f in run.rglob(".unfinished-*")]


def logged_sweep(log, children, whole, folder, mode, calls):
    """`sweep_training` of the calls that are not in the log yet; those lost of all that are."""
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    seen = {entry["at"] for entry in done if entry["mode"] == mode}
    for at in [at for at in calls if at not in seen]:
        lost = sweep_training(children, whole, folder, mode, [at])
        entry = {"mode": mode, "at": at, "lost": lost}
        with log.open("a") as out:
            out.write(json.dumps(entry) + "\n")
        done.append(entry)
    return [why for entry in done if entry["mode"] == mode for why in entry["lost"]]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_fails_somewhere_ends_where_it_would_have(children, whole, tmp_path, mode):
    calls = whole[1].struck(mode)
    some = [calls[i] for i in np.linspace(0, len(calls) - 1, FEW + 2).round().astype(int)[1:-1]]
    assert sweep_training(children, whole, tmp_path, mode, some) == []


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
def test_no_call_of_a_training_loses_anything(children, whole, tmp_path, mode):
    calls, log = chosen(whole[1], mode), os.environ.get("SWEEP_LOG")
    if log:
        lost = logged_sweep(Path(log), children, whole, tmp_path, mode, calls)
    else:
        lost = sweep_training(children, whole, tmp_path, mode, calls)
    print(f"{mode}: {len(calls)} of {whole[1].calls} calls, {len(lost)} lost")
    assert lost == []


def left(run):
    """The files of a run folder that are there by name, but for those that are being written."""
    names = {str(f.relative_to(run)): f.read_bytes() for f in run.rglob("*") if f.is_file()}
    return {name: data for name, data in names.items() if ".unfinished-" not in name}


@pytest.mark.long
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("app", OTHERS)
def test_no_call_of_another_command_spoils_a_run(children, whole, tmp_path, app, mode):
    original, _ = whole
    run = Path(shutil.copytree(original, tmp_path / "run"))
    flags, before = ["--run", str(run), *OTHERS[app]], left(run)
    ended = children.run(app, flags, run)
    assert ended.status == 0, ended.err
    after, calls, lost = left(run), chosen(ended, mode), []
    assert set(after) > set(before) and ended.calls > 3
    for at in calls:
        shutil.rmtree(run)
        shutil.copytree(original, run)
        ended = children.run(app, flags, run, at, mode)
        if not ended_well(ended, mode, at):
            lost.append((at, f"status {ended.status}: {ended.err[-900:]}"))
        found = left(run)
        lost += [(at, f"spoilt {name}") for name in before if found.get(name) != before[name]]
        new = set(found) - set(before)
        lost += [(at, f"half of {name}") for name in new if not same(name, found, after)]
    print(f"{app} {mode}: {len(calls)} calls, {len(lost)} lost")
    assert lost == []


def same(name, found, after):
    """Whether a file is the one that an undisturbed command writes; of JSON its form."""
    if name.endswith(".json"):
        return json.loads(found[name]).keys() == json.loads(after[name]).keys()
    if name.endswith(".npz"):  # a date is in it
        a, b = (np.load(io.BytesIO(files[name])) for files in (found, after))
        return all(np.array_equal(a[key], b[key]) for key in b.files)
    return found[name] == after[name]
