"""Flags as people write them: other tools' names, 1e4, and one name for evaluations."""

import dataclasses

import pytest

from apps._compare.settings import CompareConfig
from apps.eval import EvalConfig
from apps.export import ExportConfig
from apps.sample import SampleConfig
from core.errors import UserError
from core.train import toml
from core.train.cli import flags_of, parse, parse_flags
from core.train.config import TrainConfig
from core.train.features import FeaturesConfig
from core.train.flags import ALIASES, unknown

TRAIN = [
    "--steps", "--batch", "--run", "--extend", "--optim.rate", "--optim.weight-decay", "--net",
    "--net.width", "--data.path", "--out", "--plugin.head",
]  # fmt: skip

MEANT = {
    "--lr": "did you mean --optim.rate?",
    "--lr=1e-4": "did you mean --optim.rate?",
    "--batch_size": "did you mean --batch?",
    "--stepz": "did you mean --steps?",
    "--weight-decay": "did you mean --optim.weight-decay?",
    "--width": "did you mean --net.width?",
    "--data-dir": "did you mean --data.path?",
    "--plugin.haed": "did you mean --plugin.head?",
    "--epochs": "training is counted in steps of --batch examples: give --steps",
    "--resume": "an interrupted run goes on by itself where --run names its folder",
    "--zebra": "--zebra is no flag of this command",
}


@pytest.mark.parametrize("word", MEANT)
def test_the_flag_that_is_meant(word):
    assert MEANT[word] in unknown(word, TRAIN)


def test_every_alias_stands_for_a_flag_that_some_command_has():
    kinds = (TrainConfig, FeaturesConfig, SampleConfig, EvalConfig, ExportConfig, CompareConfig)
    fields = {field.name.replace("_", "-") for kind in kinds for field in dataclasses.fields(kind)}
    groups = {"optim.rate", "optim.warmup", "optim.name", "optim.schedule", "optim.clip"}
    groups |= {"data.path", "data.size", "net.dtype", "mesh.data", "teaching.scale", "guidance"}
    assert {flag for ours in ALIASES.values() for flag in ours} <= fields | groups


def test_a_wrong_flag_of_a_command_names_one_that_the_command_has():
    with pytest.raises(UserError, match="^--num-samples is no flag .* did you mean --n.; --help"):
        parse_flags(EvalConfig, ["--num-samples", "3"])
    known = flags_of(EvalConfig)
    assert {"--run", "--nfe", "--evals", "--guidance", "--json", "--no-json"} <= set(known)


@pytest.mark.parametrize(
    "word, steps", [("1e4", 10_000), ("2000", 2000), ("1_000", 1000), ("1.2e3", 1200)]
)
def test_whole_numbers_may_be_written_with_an_exponent(word, steps):
    config = parse(["--steps", word, "--nfe", "1e1", "2"])
    assert (config.steps, config.evals) == (steps, (10, 2))


@pytest.mark.parametrize("word", ["1.5", "many", "nan", "inf", "1e-3"])
def test_what_is_no_whole_number(word):
    with pytest.raises(UserError, match=f"^--steps: '{word}' is no whole number; --help"):
        parse(["--steps", word])


def test_whole_numbers_of_a_file_may_be_written_so_too(tmp_path):
    config = toml.filled(TrainConfig(), {"steps": 1e4}, "file")
    assert config.steps == 10_000 and isinstance(config.steps, int)
    with pytest.raises(UserError, match="--steps 1.5 is not of the type int"):
        toml.filled(TrainConfig(), {"steps": 1.5}, "file")


@pytest.mark.parametrize("name", ["--nfe", "--evals"])
@pytest.mark.parametrize(
    "kind, field, value",
    [
        (TrainConfig, "evals", (4,)),
        (EvalConfig, "nfe", (4,)),
        (CompareConfig, "nfe", (4,)),
        (ExportConfig, "nfe", 4),
        (SampleConfig, "nfe", 4),
    ],
)
def test_evaluations_have_one_name_in_all_commands(kind, field, value, name):
    flags = [name, "4"]
    config = parse(flags) if kind is TrainConfig else parse_flags(kind, flags)
    assert getattr(config, field) == value
