"""Large pictures: the patch that the recipe takes, and what surely does not fit."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from core.data import ImagesData
from core.errors import UserError
from core.methods.registry import find_plugin
from core.nets import DiTConfig
from core.train import memory
from core.train.cli import parse
from core.train.memory import check_memory, least_bytes
from core.train.recipe import MOST_TOKENS, patch_of, recipe
from core.train.teachers import build_run
from core.train.trainer import Trainer

IMF = find_plugin("imf")
LARGE = (256, 256, 3)


@pytest.mark.parametrize(
    "side, patch", [(28, 4), (32, 4), (64, 4), (96, 6), (128, 8), (256, 16), (1024, 64), (30, 5)]
)
def test_the_patch_divides_the_sides_and_there_are_few(side, patch):
    config = recipe(IMF, "images", None, shape=(side, side, 3))
    assert config.net_flags.patch == patch and side % patch == 0
    assert (side // patch) ** 2 <= MOST_TOKENS
    assert config.batch == 64


def test_pictures_that_no_patch_divides_keep_the_usual_one():
    assert patch_of((97, 97, 3), 4) == 4 and patch_of((9, 9, 3), 4) == 4
    assert patch_of((64, 96, 3), 4) == 8


def test_other_data_and_networks_have_their_recipes():
    assert recipe(IMF, "digits", None, shape=(8, 8, 1)) == recipe(IMF, "digits", None)
    assert recipe(IMF, "images", "unet", shape=LARGE).net == "unet"


def test_the_patch_follows_the_pictures_of_a_folder_unless_it_is_given(tmp_path):
    Image.fromarray(np.zeros((128, 128, 3), np.uint8)).save(tmp_path / "a.png")
    flags = ["--data", "images", "--data.path", str(tmp_path)]
    assert parse(flags).net_flags.patch == 8
    assert parse([*flags, "--data.size", "64"]).net_flags.patch == 4
    assert parse([*flags, "--net.patch", "32"]).net_flags.patch == 32
    assert ImagesData(str(tmp_path)).peek() == ImagesData(str(tmp_path)).load().shape


def of(patch, **settings):
    config = recipe(IMF, "images", None)
    net = dataclasses.replace(config.net_flags, patch=patch, **settings.pop("net", {}))
    return dataclasses.replace(config, net_flags=net, **settings)


def test_what_surely_does_not_fit_is_refused_and_each_way_out_fits(monkeypatch):
    """The patch of 4 that took 35 GiB, on a machine with 16."""
    monkeypatch.setattr(memory, "available_bytes", lambda: 16 * 2**30)
    with pytest.raises(UserError) as error:
        check_memory(of(4), LARGE, 10**6)
    assert str(error.value) == (
        "4,096 tokens a picture (patches of 4): a step takes 22.8 GiB at least, and there are "
        "16.0 GiB; give --net.patch 8, a smaller --batch than 64, --accumulate 4 or "
        "--net.attention auto"
    )
    ways = [
        of(8), of(4, batch=32), of(4, accumulate=4), of(4, net={"attention": "auto"}),
    ]  # fmt: skip
    for way in ways:
        assert "of 16.0 GiB" in str(check_memory(way, LARGE, 10**6))


def test_networks_of_which_only_the_compiler_knows():
    assert check_memory(recipe(IMF, "images", "unet"), LARGE, 10**6) is None
    assert check_memory(recipe(IMF, "two-moons", None), (2,), 10**6) is None


@pytest.mark.slow
@pytest.mark.parametrize("plugin, attention", [("fm", "xla"), ("imf", "auto")])
def test_the_least_is_below_what_the_compiler_asks_for_and_not_by_far(plugin, attention, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((16, 64, 64, 3), np.uint8))
    config = parse([
        "--plugin", plugin, "--data", "arrays", "--data.path", str(tmp_path / "x.npz"),
        "--batch", "16", "--net.patch", "2", "--net.attention", attention, "--net.depth", "3",
        "--dispatch", "1",
    ])  # fmt: skip
    built = build_run(config)
    found = Trainer(config, built).program().lower().compile().memory_analysis()
    asked = found.argument_size_in_bytes + found.temp_size_in_bytes
    assert isinstance(config.net_flags, DiTConfig)
    least = least_bytes(config.net_flags, (64, 64, 3), 16, built.num_parameters())
    assert least is not None and asked / 4 < least < asked


def test_sizes_are_numbers_of_few_digits():
    sizes = 230_000, 0.9 * 2**30, 22.8 * 2**30
    assert [memory._in_words(size) for size in sizes] == ["225 KiB", "922 MiB", "22.8 GiB"]
