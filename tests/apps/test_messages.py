"""What messages advise: each flag that one names is a flag of the command that prints it, and
nothing that they advise destroys what is whole."""

import importlib
import re

import pytest

from core.methods.registry import find_plugin
from core.train.cli import flags_of, parse_flags
from core.train.config import TrainConfig
from core.train.recipe import recipe
from tests.apps.flags import COMMANDS, ROOT, flags_of_command, texts

importlib.import_module("plugins")

SAMPLING = ("sample", "eval", "export")
PLACES = {
    "apps/_tilt/": ("tilt",),
    "apps/_compare/": ("compare",),
    "apps/_tune/": ("tune",),
    "portolan/studio/": ("studio",),
    "apps/_sampling.py": SAMPLING,
    "apps/_dry_run.py": ("train",),
    "apps/_exporting.py": ("export",),
    "core/adapters/pairs.py": ("export",),
    "portolan/adapting.py": (*SAMPLING, "tilt"),
    "core/data/labels.py": ("sample", "tilt"),
    "core/data/latent_folder.py": ("latents",),
    "core/data/": ("train", "features"),
    "core/export/example.py": (),  # a command of its own
    "core/export/onnx_example.py": (),
    "core/export/": ("export",),
    "core/files.py": SAMPLING,
    "core/metrics/": ("eval",),
    "core/layouts/": ("convert",),
    "core/models/codec.py": (*SAMPLING, "tilt"),
    "core/models/": ("convert",),
    "core/nets/encoder.py": ("features",),
    "core/report/compare/": ("compare",),
    "core/report/yardstick.py": ("eval",),
    "core/oracle/energies.py": ("tilt",),
    "core/sampling/edits.py": ("edit",),
    "core/sampling/grids.py": ("sample", "export"),
    "core/sampling/": SAMPLING,
    "core/steering/": ("tilt",),
    "core/train/features.py": ("features",),
    "core/train/flags.py": ("train",),
    "core/": ("train",),
    "plugins/steering/": ("tilt",),
    "plugins/": ("train",),
    "portolan/certificate.py": ("inspect",),
    "portolan/curved.py": ("eval",),
    "portolan/drawing.py": SAMPLING,
    "portolan/edit_sheets.py": ("edit",),
    "portolan/editing.py": ("edit",),
    "portolan/likelihood.py": ("eval",),
    "portolan/player/": ("export",),
    "portolan/pretrained.py": ("eval", "tilt"),
    "portolan/stored.py": ("eval", "tilt"),
    "portolan/texts.py": ("eval",),
    "portolan/tables.py": ("tilt", "check", "cost"),
    "portolan/tilt": ("tilt",),
    "portolan/yardsticks.py": ("eval",),
    "portolan/": ("train",),
}
"""The commands that print the texts of a file; the first beginning that fits counts."""
NOT_THERE = {
    ("portolan/drawing.py", "steps"): "apps.sample alone comes here with steps",
    ("portolan/drawing.py", "from"): "apps.export never comes here with examples",
    ("core/train/features.py", "out"): "apps.latents alone comes here with a folder",
    ("core/sampling/grids.py", "times"): "said of times that were given",
    ("apps/_compare/plan.py", "comparison"): "a prefix that is taken away",
    ("portolan/player/widget.py", "page"): "a colour of a style sheet",
    ("portolan/player/widget.py", "ink"): "a colour of a style sheet",
    ("portolan/runs.py", "vae"): "apps.train never comes here",
    ("portolan/texts.py", "from"): "apps.sample alone comes here with examples",
    (
        "core/models/folder.py",
        "vae",
    ): "said to all that open a flow map",
}
DESTROYING = re.compile(r"\b(delete|remove|erase|rm)\b|--restart", re.IGNORECASE)
WARNS = {
    "--extend goes on with a run and --restart deletes it; give one of them",
    " (--restart would delete it)",
    "--restart deletes what a run wrote, and no ",
    "with --remove-samples it deletes them in the end",  # they are drawn again by the same command
}
"""The texts that speak of it: they say what a flag does, and advise nothing."""


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


@pytest.mark.ci
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


@pytest.mark.parametrize(
    "command", ["sample", "eval", "export", "compare", "tilt", "convert", "tune"]
)
def test_the_flags_of_a_command_are_those_of_its_help(command):
    listed = {flag.lstrip("-") for flag in flags_of(COMMANDS[command])}
    known = {flag for flag in flags_of_command(command) if not flag.startswith("data.")}
    assert listed | {"help"} == known  # without --data there are no flags of a data set


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


ADVICE = {
    "elsewhere": "apps/test_errors.py::test_a_run_goes_on_from_before_a_damaged",
    "say where they are now in": "apps/test_cases.py::test_data_that_moved",
    "put the data back as they were": "train/test_changed_data.py::test_data_may_move",
    "--label {}: {}{}": "data/test_labels.py::test_a_class_by_name_or_number",
    "numpy.moveaxis(x, 1, -1)": "data/test_arrays.py::test_unusable_arrays_are_refused_in_one_line",
    "--data.values unit for [0, 1]": "data/test_arrays.py::test_images_in_the_unit_interval",
    "x[..., None]": "data/test_arrays.py::test_strips_with_a_channel_are_pictures",
    "return_inverse=True": "data/test_arrays.py::test_a_class_without_examples_is_said",
    "with --data.size N": "data/test_images.py::test_pictures_of_several_sizes_fit",
    "--data.upper-byte": "data/test_images.py::test_the_upper_byte_of_sixteen_bits_where_asked",
    "or give it as --reward numpy:": "steering/test_own_rewards.py::test_what_the_messages_advise",
    "FUNCTION.gradient = False": "steering/test_own_rewards.py::test_what_the_messages_advise",
    "add --twist False": "apps/test_messages.py::test_a_gradient_may_be_left_out_as_it_is_advised",
    "give --features pooled": "metrics/test_features.py::test_pixels_of_large_images_are_refused",
    "use --wandb offline": "train/test_tracking.py::test_without_a_key_it_is_one_line_before",
    "--net.attention auto": "train/test_memory.py::test_what_surely_does_not_fit",
    "give --steps": "train/test_flags.py::test_the_flag_that_is_meant",
}  # fmt: skip
"""What messages advise beyond a value in a range, each with the test that it works."""


@pytest.mark.parametrize("advice", ADVICE)
def test_advice_has_a_test_that_it_works(advice):
    file, _, name = ADVICE[advice].partition("::")
    assert any(advice in text.text for text in texts())
    assert f"def {name}" in (ROOT / "tests" / file).read_text()
