"""What messages advise: each flag that one names is a flag of the command that prints it, and
nothing that they advise destroys what is whole."""

import importlib
import re

import pytest

from core.methods.registry import find_plugin
from core.train.cli import flags_of, parse_flags
from core.train.config import TrainConfig
from core.train.recipe import recipe
from tests.apps.flags import COMMANDS, flags_of_command, texts

importlib.import_module("plugins")

SAMPLING = ("sample", "eval", "export")
PLACES = {
    "apps/_tilt/": ("tilt",),
    "apps/_compare/": ("compare",),
    "apps/_sampling.py": SAMPLING,
    "apps/_dry_run.py": ("train",),
    "core/data/labels.py": ("sample", "tilt"),
    "core/data/": ("train", "features"),
    "core/export/example.py": (),  # a command of its own
    "core/export/": ("export",),
    "core/files.py": SAMPLING,
    "core/metrics/": ("eval",),
    "core/nets/encoder.py": ("features",),
    "core/report/compare/": ("compare",),
    "core/sampling/grids.py": ("sample", "export"),
    "core/sampling/": SAMPLING,
    "core/steering/": ("tilt",),
    "core/train/features.py": ("features",),
    "core/train/flags.py": ("train",),
    "core/": ("train",),
    "plugins/steering/": ("tilt",),
    "plugins/": ("train",),
    "portolan/drawing.py": SAMPLING,
    "portolan/tables.py": ("tilt", "check", "cost"),
    "portolan/tilt": ("tilt",),
    "portolan/": ("train",),
}
"""The commands that print the texts of a file; the first beginning that fits counts."""
NOT_THERE = {
    ("portolan/drawing.py", "steps"): "apps.sample alone comes here with steps",
    ("core/sampling/grids.py", "times"): "said of times that were given",
    ("apps/_compare/plan.py", "comparison"): "a prefix that is taken away",
}
DESTROYING = re.compile(r"\b(delete|remove|erase|rm)\b|--restart", re.IGNORECASE)
WARNS = {
    "--extend goes on with a run and --restart deletes it; give one of them",
    " (--restart would delete it)",
    "--restart deletes what a run wrote, and no ",
}
"""The texts that speak of it: they say what --restart does, and advise nothing."""


def commands(file):
    app = re.fullmatch(r"apps/([a-z]+)\.py", file)
    if app:
        return (app[1],)
    return next((found for place, found in PLACES.items() if file.startswith(place)), ())


def named():
    """Every flag that a text names, with the command that must have it."""
    for text in texts():
        if re.fullmatch(r"--[\w.-]+", text.text):
            continue  # a word of a command line that the code puts together
        for said, flag in text.flags:
            for command in (said,) if said else commands(text.file):
                yield text, command, flag


def test_every_flag_in_a_message_is_a_flag_of_its_command():
    wrong = [
        f"{text.file}:{text.line}: --{flag} is no flag of apps.{command}: {text.text}"
        for text, command, flag in named()
        if flag not in flags_of_command(command) and (text.file, flag) not in NOT_THERE
    ]
    assert not wrong, "\n".join(wrong)


def test_the_collection_sees_what_it_should():
    """Flags of each kind, and as many as there were."""
    found = {(command, flag) for _, command, flag in named()}
    assert {("train", "data.path"), ("train", "optim.rate"), ("tilt", "twist")} <= found
    assert {("sample", "guidance"), ("features", "data.path"), ("eval", "features")} <= found
    assert len(found) > 150


@pytest.mark.parametrize("command", ["sample", "eval", "export", "compare", "tilt"])
def test_the_flags_of_a_command_are_those_of_its_help(command):
    listed = {flag.lstrip("-") for flag in flags_of(COMMANDS[command])}
    assert listed | {"help"} == flags_of_command(command)


def test_the_flags_of_training_hold_those_of_a_selection():
    config = recipe(find_plugin("imf"), "images", None)
    listed = {flag.lstrip("-") for flag in flags_of(TrainConfig, config)}
    assert listed <= flags_of_command("train") and len(listed) > 80


def test_no_message_advises_to_delete_what_is_whole():
    spoken = [text for text in texts() if DESTROYING.search(text.text) and " " in text.text]
    wrong = [
        f"{text.file}:{text.line}: {text.text}"
        for text in spoken
        if not any(part in text.text for part in WARNS)
    ]
    assert not wrong, "\n".join(wrong)


def test_a_gradient_may_be_left_out_as_it_is_advised():
    assert parse_flags(COMMANDS["tilt"], ["--twist", "False"]).twist is False
