"""`configs/train`: recipes as published. Each says what it is, is read, built and trained."""

import dataclasses
import re

import numpy as np
import pytest

from core.data.dataset import Dataset
from core.flow.teacher import MapTeacher
from core.methods.registry import find_plugin
from core.train import toml
from core.train.build import build
from core.train.cli import parse
from core.train.trainer import Trainer
from tests.apps.conftest import ROOT

FILES = sorted((ROOT / "configs" / "train").glob("*.toml"))
DIT = ["--net.width", "32", "--net.depth", "2", "--net.heads", "2"]
UNET = ["--net.channels", "8", "--net.blocks", "1", "--net.multipliers", "1", "1"]
SMALL = {
    "official-dit": DIT,
    "imf-dit": [*DIT, "--net.head-depth", "1"],
    "dit": DIT,
    "edm-unet": [*UNET, "--net.attention", "4", "--net.head-channels", "8"],
    "edm2-unet": [*UNET, "--net.attention", "4", "--net.head-channels", "8"],
}
TINY = ["--steps", "2", "--batch", "16", "--dispatch", "1", "--optim.warmup", "0"]
OWN = {"drift": ["--plugin.group", "4", "--plugin.positives", "4", "--plugin.unconditional", "4"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_says_where_it_is_from_and_that_nobody_ran_it(path):
    """The header has the published figure, the source, and the command; the flags are flags."""
    text, tree = path.read_text(), toml.read(path)
    head = text.partition("\n[")[0]
    assert "NOT RUN BY US" in text.splitlines()[0]
    assert re.search(r"^# Published: FID", head, re.M) and re.search(r"^# Source: ", head, re.M)
    assert f"--config configs/train/{path.name}" in head
    assert "arXiv" in head or "under review" in head
    toml.check_flags(tree, str(path))
    find_plugin(tree["plugin"]["name"])
    assert path.stem.startswith(tree["plugin"]["name"].split("-")[0])
    known = {field.name for field in dataclasses.fields(find_plugin(tree["plugin"]["name"]))}
    assert set(tree["plugin"]) - {"name"} <= known


def test_the_recipe_of_clothes_is_read():
    config = parse(["--config", str(ROOT / "configs" / "fashion.toml"), "--data.path", "fashion"])
    assert (config.plugin, config.data, config.steps) == ("alphaflow", "idx", 4000)
    assert config.plugin_flags.guidance.scale == 1.5 and config.plugin_flags.full == 0.15
    assert (config.net_flags.width, config.net_flags.depth, config.optim.rate) == (96, 4, 2e-3)


def data_of(name, n=32):
    """Examples of the shape that a recipe is for, one class after the other."""
    draw = np.random.default_rng(0)
    labels = np.arange(n, dtype=np.int32) % 4
    common = {"name": name, "kind": "image", "labels": labels, "num_classes": 4}
    if name == "cifar10":
        pixels = draw.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
        return Dataset(shape=(8, 8, 3), examples=pixels, levels=255, **common)
    latents = draw.normal(size=(n, 8, 8, 4)).astype(np.float32)
    return Dataset(shape=(8, 8, 4), examples=latents, **common)


@pytest.mark.long
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recipe_trains_for_a_step_in_a_tiny_size(path):
    tree = toml.read(path)
    name, data = tree["plugin"]["name"], tree["data"]["name"]
    flags = ["--config", str(path), *TINY, *SMALL[tree["net"]["name"]], *OWN.get(name, [])]
    config, dataset, teacher = parse(flags), data_of(data), None
    if find_plugin(name).needs_teacher:
        taught = parse(["--plugin", "fm", "--data", data, "--path", config.path, "--net", "dit"])
        teacher = MapTeacher(build(taught, data=dataset).method.flow_map)
        config = parse([*flags, "--plugin.no-warm-start"])
    trainer = Trainer(config, build(config, teacher, data=dataset))
    done = [step.metrics["loss"] for step in trainer.run()]
    assert len(done) == 2 and all(np.isfinite(done))
    assert trainer.built.num_parameters() > 1000
