"""`apps.compare`: cells that go on, tables that grow, failures that are reported."""

import json
import os
import signal
import sys
import time

import pytest
from PIL import Image

from apps import compare
from apps._compare import pool
from apps._compare.plan import Job, Plan
from apps._compare.settings import read_settings
from core.errors import UserError
from core.train.run import open_run
from portolan.signals import StopRequest
from tests.apps.conftest import ROOT

pytestmark = pytest.mark.slow

TINY = [
    "--", "--data.n", "256", "--net.width", "16", "--net.depth", "2", "--batch", "32",
    "--dispatch", "2", "--save-every", "4",
]  # fmt: skip


def flags(out, *plugins, steps=8):
    own = ["--plugins", *plugins, "--data", "checkerboard", "--seeds", "1", "--steps", str(steps)]
    return [*own, "--nfe", "1", "2", "--n", "64", "--out", str(out), *TINY]


def run(*argv):
    """Exit status of the app in this process; its children need the path of the code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        try:
            compare.main(list(argv))
        except SystemExit as stop:
            return stop.code
    return 0


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A comparison of two methods, one of which finds something else in its folder: exit status and
    folder."""
    out = tmp_path_factory.mktemp("comparison") / "out"
    (out / "mf-0" / "metrics.jsonl").mkdir(parents=True)
    return run(*flags(out, "mf", "fm")), out


@pytest.fixture(scope="module")
def whole(half):
    """The same after a second call that fixes it: exit status, folder, what was there before."""
    _, out = half
    before = (out / "fm-0" / "cell.json").stat().st_mtime_ns
    (out / "mf-0" / "metrics.jsonl").rmdir()
    return run(*flags(out, "mf")), out, before


def test_a_cell_that_fails_is_reported_and_the_others_go_on(half):
    status, out = half
    assert status == 1
    assert "is no run folder and holds metrics.jsonl" in (out / "mf-0" / "log.txt").read_text()
    names = [each["plugin"] for each in json.loads((out / "results.json").read_text())["cells"]]
    assert names == ["fm"]


@pytest.mark.long
def test_a_second_call_trains_what_is_missing_and_nothing_else(whole):
    status, out, before = whole
    assert status == 0
    assert (out / "fm-0" / "cell.json").stat().st_mtime_ns == before
    found = json.loads((out / "results.json").read_text())
    assert {each["plugin"] for each in found["cells"]} == {"fm", "mf"}
    assert {"date", "command", "versions", "shared", "reference"} <= set(found)
    for each in found["cells"]:
        assert [row["nfe"] for row in each["rows"]] == [1, 2] and each["samples"] == 8 * 32
        assert all({"w2", "kl", "sliced_w2"} <= set(row) for row in each["rows"])
        assert each["total_flops"] == 8 * each["flops"] > 0 and each["seconds"] > 0
    means = {each["plugin"]: each["quality"]["w2"]["1"]["mean"] for each in found["methods"]}
    assert means == {each["plugin"]: each["rows"][0]["w2"] for each in found["cells"]}
    flops = {each["plugin"]: each["flops"] for each in found["cells"]}
    assert flops["mf"] > flops["fm"]


def test_it_leaves_table_and_pictures_and_ordinary_runs(whole):
    _, out, _ = whole
    table = (out / "table.md").read_text()
    assert "| mf | " in table and "| fm | " in table and "| real against real | " in table
    for name in ("quality", "cost", "samples_1", "samples_2"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.format == "PNG" and min(picture.size) > 200
    assert open_run(out / "fm-0").step == 8
    assert json.loads((out / "fm-0" / "summary.json").read_text())["step"] == 8


def test_the_report_alone_is_made_of_what_is_there(whole):
    _, out, _ = whole
    (out / "table.md").unlink()
    stamps = {path: path.stat().st_mtime_ns for path in out.glob("*/cell.json")}
    assert run("--out", str(out), "--report-only") == 0
    assert (out / "table.md").exists()
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    examples = out / "fm-0" / "samples" / "examples.npz"
    examples.rename(out / "away.npz")  # a cell that came without its samples is in the table still
    assert run("--out", str(out), "--report-only") == 0
    assert "| fm | " in (out / "table.md").read_text()
    (out / "away.npz").rename(examples)


def test_a_folder_holds_one_comparison(whole):
    _, out, _ = whole
    with pytest.raises(UserError, match=r"holds another comparison \(--steps 8 there, 9 asked\)"):
        compare.main(flags(out, "mf", steps=9))
    with pytest.raises(UserError, match=r"\(--batch 32 there, 16 asked\)"):
        compare.main([*flags(out, "mf"), "--batch", "16"])


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--plugins", "imff"], "did you mean 'imf'"),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--reference", "nothing"], "unknown plugin"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--nfe", "0"], "--nfe"),
        (["--budget", "time"], "--budget"),
        (["--", "--seed", "3"], "--seed after `--`"),
        (["--", "--stepz", "3"], "--stepz"),
        (["--teacher", "nowhere"], "not a run folder"),
        (["--report-only"], "holds no finished run"),
        (["--variants", "nowhere.toml"], "nowhere.toml"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        compare.main(argv)
    assert "\n" not in str(error.value).strip() and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "holds no variant"),
        ("[a]\nsteps = 3", "names no method"),
        ('[a.plugin]\nname = "gcm-w"', "did you mean 'gcm-"),
        ('["a/b".plugin]\nname = "ct"', "must do for a folder"),
        ('[a.plugin]\nname = "ct"\nlast = 0', "first <= last"),
        ('[a.plugin]\nname = "gcm-vu"\nshape = "cubic"', "did you mean 'cubic-decrease'"),
        ('[a.plugin]\nname = "gcm-vu"\nmean_gap = -1.0', "--plugin.mean-gap"),
    ],
)
def test_a_bad_file_of_variants_is_one_line(text, message, tmp_path):
    (tmp_path / "variants.toml").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        compare.main(
            ["--variants", str(tmp_path / "variants.toml"), "--out", str(tmp_path / "out")]
        )
    assert "\n" not in str(error.value).strip() and not (tmp_path / "out").exists()


def test_the_flags_of_a_variant_do_not_depend_on_their_order(tmp_path):
    path = tmp_path / "variants.toml"
    path.write_text('[a]\nema = 0.5\n[a.optim]\nrate = 0.25\n[a.plugin]\nlast = 30\nname = "ct"')
    settings, extra = read_settings(["--variants", str(path), "--seeds", "1"])
    (job,) = Plan(settings, extra).runs()
    assert job.config["plugin"]["name"] == "ct" and job.config["plugin"]["last"] == 30
    assert job.config["ema"] == 0.5 and job.config["optim"]["rate"] == 0.25


def test_variants_are_runs_with_their_own_flags(tmp_path):
    ladder = ROOT / "configs" / "compare" / "gcm-cu.toml"
    settings, extra = read_settings(["--variants", str(ladder), "--data", "digits", "--seeds", "1"])
    jobs = {job.label: job for job in Plan(settings, extra).runs()}
    assert list(jobs)[0] == "A-baseline" and len(jobs) == 6
    shapes = {label: job.config["plugin"]["shape"] for label, job in jobs.items()}
    assert shapes.pop("A-baseline") == "constant" and set(shapes.values()) == {"exponential"}
    assert jobs["F-moments"].config["plugin"]["group"] == 4
    assert jobs["F-moments"].folder.endswith("F-moments-0")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / "configs/compare").glob("*.toml")))
def test_each_set_of_variants_that_we_ship_is_a_set_of_runs(name):
    """Its flags exist, and no two of its variants are the same."""
    argv = ["--variants", str(ROOT / "configs" / "compare" / name), "--data", "digits"]
    settings, extra = read_settings([*argv, "--seeds", "1", "--steps", "500"])
    configs = [dict(job.config, run=None) for job in Plan(settings, extra).runs()]
    assert len(configs) > 1
    assert all(one not in configs[:i] for i, one in enumerate(configs))


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = compare.main(["--plugins", "all", "--seeds", "2", "--dry-run", "--json"])
    runs = [entry["run"] for entry in result["runs"]]
    assert "runs/compare-checkerboard/imf-1" in runs and list(tmp_path.iterdir()) == []


# --- Equal operations ---


def test_steps_follow_from_the_operations(tmp_path):
    argv = flags(tmp_path, "imf", "fm", steps=1000)
    settings, extra = read_settings(["--budget", "flops", *argv])
    plan = Plan(settings, extra)
    assert plan.runs() == []
    for job, flops in zip(plan.costs(), (4e6, 2.5e6)):
        job.write()
        cost = {"config": job.config, "flops": flops, "loop": False}
        (tmp_path / "costs" / job.name / "cost.json").write_text(json.dumps(cost))
    steps = {job.name: job.steps for job in plan.runs()}
    assert steps == {"imf-0": 1000, "fm-0": 1600}


# --- Child processes ---


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """`scripts(name=code, ...)` -> jobs whose children run that Python code."""
    codes = {}
    monkeypatch.setattr(
        pool, "_command", lambda path: [sys.executable, "-c", codes[path.parent.name]]
    )

    def make(**named):
        codes.update(named)
        common = {"flags": [], "config": {}, "shared": {}, "nfe": [1], "n": 0, "steps": 1}
        return [Job(what="run", name=n, label=n, folder=str(tmp_path / n), **common) for n in named]

    return make


def watch(jobs, width, stop, tick=lambda running: None):
    ends = {}
    pool.run_jobs(jobs, width, stop, lambda job, bad: ends.update({job.name: bad}), tick)
    return ends


def test_complaints_are_the_last_thing_a_child_said(scripts, tmp_path):
    jobs = scripts(
        good="print('error: not so bad')",
        user="import sys; print('error: name another', file=sys.stderr); print(); sys.exit(2)",
        bug="raise KeyError('x')",
        killed="import os; os.kill(os.getpid(), 9)",
        mute="raise SystemExit(3)",
    )
    with StopRequest() as stop:
        ends = watch(jobs, 2, stop)
    assert ends == {
        "good": None, "user": "name another", "bug": "KeyError: 'x'",
        "killed": "killed by signal 9", "mute": "exit status 3",
    }  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity on this system")
def test_children_side_by_side_have_cores_of_their_own(scripts, tmp_path):
    show = "import os; print(sorted(os.sched_getaffinity(0)))"
    mine, jobs = os.sched_getaffinity(0), scripts(a=show, b=show)
    with StopRequest() as stop:
        watch(jobs, 2, stop)
    assert os.sched_getaffinity(0) == mine
    a, b = (set(json.loads((tmp_path / name / "log.txt").read_text())) for name in "ab")
    assert a | b == mine if len(mine) > 1 else a == b == mine
    assert len(mine) == 1 or not a & b


def test_ctrl_c_on_a_terminal_does_not_reach_the_children_themselves(scripts, tmp_path):
    jobs = scripts(leader="import os; print(os.getsid(0) == os.getpid())")
    with StopRequest() as stop:
        watch(jobs, 1, stop)
    assert (tmp_path / "leader" / "log.txt").read_text() == "True\n"


def test_a_stop_lets_children_save_themselves_and_starts_no_others(scripts, tmp_path):
    saves = (
        "import signal, sys, time\n"
        "def save(*_):\n    print('saved', flush=True); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, save); print('ready', flush=True); time.sleep(60)"
    )
    jobs = scripts(first=saves, second="print('never')")

    def when_ready(running):
        log = tmp_path / "first" / "log.txt"
        if log.read_text() == "ready\n" and not sent:
            sent.append(os.kill(os.getpid(), signal.SIGINT))

    sent, began = [], time.monotonic()
    with StopRequest() as stop:
        ends = watch(jobs, 1, stop, when_ready)
    assert stop.number == signal.SIGINT and ends == {} and time.monotonic() - began < 30
    assert (tmp_path / "first" / "log.txt").read_text() == "ready\nsaved\n"
    assert not (tmp_path / "second").exists()
