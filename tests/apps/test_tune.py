"""`apps.tune`: what is searched, that a search goes on as if it had not stopped, what it leaves."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from apps import tune
from apps._tune.outputs import cost_of, least, merged, nested
from apps._tune.space import (
    Dimension,
    changed_space,
    chosen_space,
    flags_for,
    point,
    space_of,
    words_of,
)
from apps._tune.study import FILE, Study, recorded
from apps._tune.trial import figure
from core.errors import NotFinite, UserError
from core.methods.registry import find_plugin, plugins
from core.train import toml
from core.train.cli import parse
from core.train.recipe import recipe
from tests.apps.conftest import ROOT, command

TINY = [
    "--", "--data.n", "256", "--net.width", "16", "--net.depth", "2", "--batch", "32",
    "--dispatch", "2",
]  # fmt: skip


def flags(out, trials=3, *more):
    own = ["--plugin", "mf", "--data", "checkerboard", "--trials", trials, "--budget", "24"]
    own += ["--startup", "1", "--n", "64", "--out", out, "--search", "optim.rate", "ema"]
    return [*map(str, own), *more, *TINY]


def imf():
    return recipe(find_plugin("imf"), "digits", None)


# --- The space ---


def test_the_usual_point_is_the_recipe_and_any_point_keeps_the_shares():
    config, draw = imf(), iter([0.5] * 3)
    space = space_of(config, config.steps)
    usual = flags_for(point(space, lambda one: one.usual), 0.25)
    tree = toml.to_dict(config)
    assert "optim.decay" not in usual and "plugin.constant" not in usual  # without effect there
    for flag, value in usual.items():
        groups, place = flag.replace("-", "_").split("."), tree
        for group in groups:
            place = place[group]
        assert value == pytest.approx(place, abs=1e-9), flag
    shares = [one for one in space if one.flag in ("plugin.full", "plugin.uniform")]
    found = flags_for(point(shares, lambda one: one.high * next(draw)), 0.0)
    assert found == {"plugin.full": 0.25, "plugin.uniform": 0.375}  # a half of three quarters


def test_what_is_fixed_or_without_effect_is_not_searched():
    space = space_of(imf(), 100)
    names = [one.flag for one in chosen_space(space, [], ["--optim.schedule", "cosine", "--ema=0"])]
    assert "optim.rate" in names
    assert not {"optim.schedule", "optim.decay", "ema"} & set(names)
    assert [one.flag for one in chosen_space(space, ["plugin.time_mean"], [])] == [
        "plugin.time-mean"
    ]
    refused = [one.flag for one in space_of(recipe(find_plugin("cfm-csd"), "text", None), 100)]
    assert "plugin.full" not in refused and "plugin.diagonal" in refused
    with pytest.raises(UserError, match=r"--ema after `--` is fixed"):
        chosen_space(space, ["ema"], ["--ema", "0.9"])
    with pytest.raises(UserError, match="did you mean 'plugin.power'"):
        chosen_space(space, ["plugin.powr"], [])


@pytest.mark.parametrize(
    "text, message",
    [
        ("['optim.rat']\nlow = 1\nhigh = 2", "no flag with a value"),
        ("['optim.rate']\nlow = 2.0\nhigh = 1.0", "low must be below high"),
        ("['optim.rate']\nlow = 0.0\nhigh = 1.0\nlog = true", "must be above 0"),
        ("['plugin.grow']\nlow = 0.1\nhigh = 0.9\nlog = true", "recipe's value, 0.0"),
        ("[ema]\nchoices = [0.9, 1.0]", r"must be in \[0, 1\)"),
        ("['optim.rate']\nstep = 1", "has step"),
        ("['plugin.form']\nlow = 1\nhigh = 2", "or choices"),
        ("ema = 0.9", "needs a table"),
    ],
)
def test_a_bad_file_of_the_space_is_one_line(text, message, tmp_path):
    (tmp_path / "space.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        changed_space([], tmp_path / "space.toml", imf())


def test_a_file_changes_the_space(tmp_path):
    path = tmp_path / "space.toml"
    path.write_text(
        "['net.width']\nlow = 32\nhigh = 96\n['plugin.form']\nchoices = ['average', 'rotation']\n"
        "[ema]\nlow = 0.9\nhigh = 0.99"
    )
    found = {one.flag: one for one in changed_space(space_of(imf(), 100), path, imf())}
    assert found["net.width"].whole and not found["optim.rate"].whole
    assert found["plugin.form"].choices == ("average", "rotation")
    window = found["ema"]
    assert (window.low, window.high) == pytest.approx((10, 500))  # the recipe's own is inside
    path.write_text("[ema]\nchoices = [0.9, 0.99]")
    (window,) = changed_space([], path, imf())
    assert [flags_for({"ema": one}, 0.0)["ema"] for one in window.choices] == [0.9, 0.99, 0.998]


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(plugins()))
def test_every_point_of_every_method_is_a_configuration(name, rng):
    plugin = find_plugin(name)
    data = "text" if plugin.tokens else "digits"
    config = recipe(plugin, data, None)
    space = space_of(config, 200)
    full = float(getattr(config.plugin_flags, "full", 0.0))

    def any_value(one: Dimension):
        if one.choices:
            return one.choices[rng.integers(len(one.choices))]
        return one.low + (one.high - one.low) * float(rng.choice([0.0, rng.random(), 1.0]))

    for _ in range(12):
        words = words_of(flags_for(point(space, any_value), full))
        assert parse(["--plugin", name, "--data", data, *words]).plugin == name


# --- The study ---

SPACE = [
    Dimension("optim.rate", 0.1, 0.01, 1.0, log=True),
    Dimension("optim.clip", 1.0, choices=(0.0, 1.0)),
    Dimension("optim.decay", 3, 1, 9, when=("optim.clip", (1.0,))),
]


def play(folder: Path, trials: int, cut: int | None = None):
    """A search by figures that are a function of the point; it stops within trial `cut`."""
    study = Study(folder, SPACE, 7, 2)
    going = study.interrupted()
    for asked in going + [None] * (trials - study.done() - len(going)):
        asked = asked or study.ask()
        value = (asked.point["optim.rate"] - 0.3) ** 2 + asked.point["optim.clip"]
        if asked.number == cut:
            return
        study.report(asked.number, {"0": {"step": 5, "value": value}})
        worse = study.is_worse(asked.number)
        study.tell(asked.number, "pruned" if worse else "complete", None if worse else value)


def record(folder: Path):
    return [(t.number, t.params, t.value, t.state.name) for t in Study(folder, (), 0, 1).trials()]


@pytest.mark.slow
def test_a_study_that_was_cut_goes_on_as_if_it_had_not_been(tmp_path):
    play(tmp_path / "whole", 9)
    for cut in (0, 4, 6):
        folder = tmp_path / f"cut-{cut}"
        play(folder, 9, cut)
        with (folder / FILE).open("ab") as journal:
            journal.write(b'{"op_code":4,"work')  # killed while it wrote
        (folder / (FILE + ".lock")).symlink_to(folder / FILE)
        before = (folder / FILE).read_bytes()
        assert len(recorded(folder)) == cut + 1  # by --report-only, which touches nothing
        assert (folder / FILE).read_bytes() == before
        assert (folder / (FILE + ".lock")).is_symlink()
        play(folder, 9)
        assert record(folder) == record(tmp_path / "whole")
    found = record(tmp_path / "whole")
    assert found[0][1] == {"optim.rate": 0.1, "optim.clip": 1.0, "optim.decay": 3}
    assert len({str(params) for _, params, _, _ in found}) == 9
    assert {state for _, _, _, state in found} == {"COMPLETE", "PRUNED"}


@pytest.mark.long
def test_a_recipe_that_failed_is_tried_again(tmp_path):
    """Also by the next call, such as after the disk was full."""
    for state in ("failed", "failed", "complete"):
        study = Study(tmp_path, SPACE, 7, 2)
        asked = study.ask()
        assert asked.usual and asked.point["optim.rate"] == 0.1 and asked.point["optim.decay"] == 3
        study.tell(asked.number, state, 1.0 if state == "complete" else None)
    assert asked.number == 2 and not study.ask().usual
    (going,) = Study(tmp_path, SPACE, 7, 2).interrupted()
    assert going.number == 3 and not going.usual


# --- Figures and files ---


def test_the_figure_is_a_geometric_mean_and_finite():
    rows = [{"nfe": 1, "w2": 2.0, "kl": None}, {"nfe": 4, "w2": 0.5, "kl": 1.0}]
    assert figure(rows, "w2") == pytest.approx(1.0)
    with pytest.raises(NotFinite):
        figure(rows, "kl")
    with pytest.raises(UserError, match="have no --metric frechet; choose from w2, kl"):
        figure(rows, "frechet")


@pytest.mark.long
def test_the_least_lines_of_a_configuration_give_it_again():
    argv = ["--plugin", "lsd", "--data", "two-moons", "--steps", "70", "--optim.b2", "0.95"]
    tree = toml.shaping(toml.to_dict(parse([*argv, "--plugin.diagonal", "0.125", "--seed", "3"])))
    few = least(tree)
    assert few == {
        "steps": 70, "data": {"name": "two-moons"}, "optim": {"b2": 0.95},
        "plugin": {"name": "lsd", "diagonal": 0.125},
    }  # fmt: skip
    assert nested({"optim.rate": 1.0, "plugin.time-mean": 2.0, "ema": 0.5}) == {
        "optim": {"rate": 1.0}, "plugin": {"time_mean": 2.0}, "ema": 0.5,
    }  # fmt: skip
    assert list(merged({"a": {"b": 1}}, {"a": {"c": 2}, "d": 3})) == ["d", "a"]


def test_the_cost_counts_what_was_stopped():
    row = {"state": "complete", "steps": 100, "of": 100, "seconds": 3.0, "flops": 2.0}
    stopped = {"state": "pruned", "steps": 25, "of": 0, "seconds": 1.0, "flops": None}
    found = cost_of([row, row, stopped], 100, 8, None)
    assert found["steps"] == 225 and found["examples"] == 1800 and found["trainings"] == 2.25
    assert found["operations"] == 450 and found["seconds"] == 7.0
    assert (found["complete"], found["pruned"], found["failed"]) == (2, 1, 0)
    small = [{**row, "of": 200}, {**row, "steps": 50, "of": 50}]  # of so many operations, say
    assert cost_of(small, 1000, 8, None)["trainings"] == 1.5


@pytest.mark.long
@pytest.mark.parametrize(
    "argv, message",
    [
        (["--plugin", "immf"], "did you mean 'imm'"),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--rungs", "0.5", "0.25"], "--rungs must increase"),
        (["--unit", "seconds"], "needs a --budget"),
        (["--budget", "1.5"], "whole number"),
        (["--plugin", "boot", "--nfe", "4", "--teacher", "exact"], "give --nfe 1"),
        (["--space", "nowhere.toml"], "give --space a TOML file"),
        (["--", "--seed", "3"], "set by apps.tune itself"),
        (["--report-only"], "holds no search"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(argv, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        tune.main(argv)
    assert list(tmp_path.iterdir()) == []


# --- Whole searches ---


def run(*argv):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command("tune", *argv), capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stderr


def trials(out):
    """What must not depend on how a search ran."""
    found = json.loads((out / "trials.json").read_text())["trials"]
    return [(row["flags"], row["state"], row["value"], row["rungs"]) for row in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("search") / "out"
    run(*flags(out))
    return out


@pytest.mark.long
def test_a_search_leaves_a_table_its_cost_and_settings_that_train(whole):
    found = json.loads((whole / "trials.json").read_text())
    assert found["trials"][0]["flags"] == {} and len(found["trials"]) == 3
    assert found["cost"]["steps"] == sum(row["steps"] for row in found["trials"]) <= 3 * 24
    assert found["cost"]["seconds"] > 0 and found["cost"]["operations"] > 0
    best = found["best"]
    config = parse(["--config", str(whole / "best.toml")])
    written = toml.read(Path(best["run"]) / "config.toml")
    assert toml.shaping(toml.to_dict(config)) == toml.shaping(written)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    checked = command("compare", "--variants", whole / "variants.toml", "--dry-run", "--json")
    checked += ["--data", "checkerboard", "--seeds", "1"]
    done = subprocess.run(checked, capture_output=True, text=True, env=env, cwd=whole)
    assert done.returncode == 0 and "recipe-0" in done.stdout
    again = run(*flags(whole))
    assert "trial-000" not in again.split("cost of the search")[0].replace("trial-0000: ", "")
    with pytest.raises(UserError, match=r"another search \(--budget 24.0 there, 25.0 asked\)"):
        tune.main([*flags(whole, 3, "--budget", "25")])


@pytest.mark.long
def test_a_search_that_was_killed_repeats_no_trial(whole, tmp_path):
    out = tmp_path / "out"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    search = subprocess.Popen(command("tune", *flags(out)), env=env, stderr=subprocess.DEVNULL)
    began = out / "trials" / "trial-0001" / "checkpoints"
    until = time.monotonic() + 300
    while not began.is_dir() and time.monotonic() < until:
        time.sleep(0.05)
    search.send_signal(signal.SIGKILL)
    search.wait()
    first = (out / "trials" / "trial-0000" / "cell.json").stat().st_mtime_ns
    run(*flags(out))
    assert (out / "trials" / "trial-0000" / "cell.json").stat().st_mtime_ns == first
    assert trials(out) == trials(whole)


@pytest.mark.long
def test_the_same_search_by_submitit(whole, tmp_path):
    out = tmp_path / "out"
    run(*flags(out, 3, "--engine", "submitit", "--cluster", "local"))
    assert trials(out) == trials(whole)
    assert any((out / "jobs").iterdir())
