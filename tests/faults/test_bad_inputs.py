"""Bad inputs to every command: one line, exit status 2, nothing written.

The table names for each command its flags and values that none of them may take.
"""

import os
import shutil

import pytest

from core.errors import UserError, explained
from core.train.cli import parse
from core.train.features import parse_features
from tests.apps.conftest import POINTS
from tests.train.runs import make_run

NUMBERS = ["-1", "nan", "1e400", "abc", ""]
WHOLE = ["-1", "9" * 30, "1.5", "x"]
COUNT = [*WHOLE, "0"]
NAME = ["", "[red]x[/red]", "\x00", "../.."]

TRAIN = {
    "--steps": COUNT, "--batch": COUNT, "--accumulate": COUNT, "--dispatch": COUNT,
    "--log-every": COUNT, "--keep": COUNT, "--seed": WHOLE, "--sample-every": WHOLE,
    "--save-every": WHOLE, "--ema": [*NUMBERS, "1", "2"], "--evals": COUNT,
    "--optim.rate": [*NUMBERS, "0"], "--optim.warmup": WHOLE, "--optim.b1": [*NUMBERS, "1"],
    "--optim.b2": [*NUMBERS, "1"], "--optim.clip": NUMBERS, "--optim.decay": COUNT,
    "--optim.weight-decay": NUMBERS, "--optim.name": NAME, "--optim.schedule": NAME,
    "--plugin": NAME[1:], "--data": NAME[1:], "--net": NAME[1:], "--path": NAME, "--on-nan": NAME,
    "--wandb": NAME, "--config": ["nothing", "\x00", "a" * 5000, "."],
    "--net.width": COUNT, "--net.depth": COUNT, "--net.frequencies": COUNT,
    "--net.max-frequency": [*NUMBERS, "0"], "--net.encoder-depth": ["-1", "nan", "x"],
    "--plugin.diagonal": [*NUMBERS, "2"], "--plugin.full": [*NUMBERS, "2"],
    "--plugin.both": [*NUMBERS, "2"],
    "--plugin.uniform": [*NUMBERS, "2"], "--plugin.time-std": NUMBERS,
    "--plugin.time-mean": [n for n in NUMBERS if n != "-1"], "--plugin.power": NUMBERS,
    "--plugin.constant": NUMBERS, "--mesh.data": WHOLE, "--mesh.fsdp": COUNT,
}  # fmt: skip
FEATURES = {
    "--hidden": [*NUMBERS, "0", "1"], "--patch": COUNT, "--task": NAME, "--encoder.width": COUNT,
    "--encoder.levels": COUNT, "--encoder.blocks": COUNT, "--data": NAME[1:],
}  # fmt: skip
SAMPLE = {
    "--steps": COUNT, "--n": COUNT, "--seed": ["-1", "nan", "x", "9" * 30], "--label": ["3", "x"],
    "--sampler": NAME[1:], "--grid": NAME, "--shift": [*NUMBERS, "0"],
    "--times": ["2", "-1", "nan", "x"], "--guidance": ["0.5", "nan", "inf", "x"],
    "--run": [*NAME[1:], "a" * 5000, "/dev/null"],
}  # fmt: skip
EVAL = {
    "--n": WHOLE, "--nfe": COUNT, "--seed": WHOLE, "--sampler": NAME[1:], "--features": NAME[1:],
    "--run": [*NAME[1:], "a" * 5000, "/dev/null"], "--tolerance": ["0", "nan", "-1"],
    "--stats": ["nothing.npz", "", "\x00", ".", "/dev/null", "a" * 5000],
    "--classifier": ["nothing", "\x00", "."], "--likelihood": NAME,
}  # fmt: skip
STATS = {
    "--n": WHOLE, "--sample": [*WHOLE, "60000"], "--features": NAME[1:], "--data": NAME[1:],
    "--out": ["a.txt", "nothing/\x00.npz", "/dev/null", "a" * 5000 + ".npz", "run.json/a.npz"],
}  # fmt: skip
EXPORT = {
    "--nfe": COUNT, "--sampler": NAME[1:], "--platforms": NAME, "--times": ["2", "-1", "nan", "x"],
    "--run": [*NAME[1:], "a" * 5000, "/dev/null"],
}  # fmt: skip
TILT = {
    "--n": COUNT, "--islands": COUNT, "--show": COUNT, "--seed": WHOLE, "--budget": WHOLE,
    "--chunk": COUNT, "--plugin": [*NAME, "smc:steps=nan", "smc:steps=0", "smc:nothing=1"],
    "--reward": [*NAME, "python:", "python:x", "python:no.such:f", "mask:x", "brightness:3"],
    "--strength": ["nan", "inf", "x"], "--lam": ["nan", "inf", "x"],
    "--run": [*NAME[1:], "a" * 5000, "/dev/null"],
}  # fmt: skip
COMPARE = {
    "--plugins": NAME, "--seeds": COUNT, "--jobs": COUNT, "--steps": WHOLE, "--budget": NAME,
    "--reference": NAME[1:], "--nfe": COUNT, "--n": [*WHOLE, "3"], "--teacher-steps": WHOLE,
    "--data": NAME[1:], "--variants": ["nothing", ".", "\x00"],
}  # fmt: skip
EDIT = {
    "--n": COUNT, "--first": [*WHOLE, "900"], "--steps": COUNT, "--seed": WHOLE, "--edit": NAME,
    "--noise": ["0", "1.5", "nan", "x"], "--sampler": NAME[1:], "--data": NAME[1:],
    "--run": [*NAME[1:], "a" * 5000, "/dev/null"],
}  # fmt: skip
PARSED = {"train": (TRAIN, parse, POINTS), "features": (FEATURES, parse_features, [])}
COMMANDS = {
    "sample": (SAMPLE, []), "eval": (EVAL, []), "export": (EXPORT, []), "stats": (STATS, []),
    "tilt": (TILT, ["--reward", "linear"]), "compare": (COMPARE, ["--dry-run"]),
    "edit": (EDIT, []),
}  # fmt: skip


def cases(table):
    return [(flag, value) for flag, values in table.items() for value in values]


def test_there_are_250():
    tables = [one[0] for one in (*PARSED.values(), *COMMANDS.values())]
    assert sum(len(cases(table)) for table in tables) >= 250


def refused(call, argv):
    """None where the call ends in one line, else how it ends."""
    try:
        call(argv)
    except UserError as error:
        text = str(error)
    except SystemExit as stop:
        return None if stop.code == 2 else f"exit {stop.code}"
    except Exception as error:
        known = explained(error)
        if known is None:
            return f"{type(error).__name__}: {error}"
        text = str(known)
    else:
        return "accepted"
    return None if text.strip() and len(text) < 9000 else f"says {text!r}"


def wrong(table, call, before):
    """The cases that do not end in one line."""
    found = {(flag, value): refused(call, [*before, flag, value]) for flag, value in cases(table)}
    return {case: how for case, how in found.items() if how is not None}


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "run"
    make_run(folder, *POINTS)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("app", PARSED)
def test_flags_of_training(app, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table, call, before = PARSED[app]
    assert wrong(table, call, before) == {}
    assert os.listdir(tmp_path) == []


@pytest.mark.long
@pytest.mark.parametrize("app", COMMANDS)
def test_flags_of_commands(app, original, tmp_path, monkeypatch):
    import importlib

    monkeypatch.chdir(tmp_path)
    shutil.copytree(original, "run")
    before = sorted(tmp_path.rglob("*"))
    table, flags = COMMANDS[app]
    own = [] if app in ("compare", "stats") else ["--run", "run"]
    assert wrong(table, importlib.import_module(f"apps.{app}").main, [*own, *flags]) == {}
    assert sorted(tmp_path.rglob("*")) == before


SOME = {"--steps": ["9" * 30, "nan"], "--optim.rate": ["inf"], "--net.width": ["0"]}


@pytest.mark.programs(100)
def test_some_flags_of_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert wrong(SOME, parse, POINTS) == {}
    assert refused(parse, POINTS) == "accepted"
