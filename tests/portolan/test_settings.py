"""The keywords of `train` are the flags of `apps.train`."""

from dataclasses import replace

import numpy as np
import pytest

import plugins as plugins  # registers the methods
from core.data import DigitsData, from_arrays
from core.errors import UserError
from core.methods.registry import find_plugin
from core.nets import DiTConfig, MLPConfig, UNetConfig
from core.train.cli import parse
from portolan.settings import config_of

IMF = find_plugin("imf")


@pytest.mark.parametrize(
    "method, data, settings, flags",
    [
        ("imf", "digits", {}, []),
        ("fm", "spiral", {"steps": 7}, ["--plugin", "fm", "--data", "spiral", "--steps", "7"]),
        (
            "imf",
            "digits",
            {"optim": {"rate": 1e-3, "schedule": "constant"}, "evals": (1, 2), "path": "trig"},
            ["--optim.rate", "1e-3", "--optim.schedule", "constant", "--evals", "1", "2"]
            + ["--path", "trig"],
        ),
        (
            "imf",
            "digits",
            {"plugin": {"diagonal": 0.25, "guidance": {"most": 4}}},
            ["--plugin.diagonal", "0.25", "--plugin.guidance.most", "4"],
        ),
        ("imf", "digits", {"net": "unet"}, ["--net", "unet"]),
        ("imf", "digits", {"net": {"width": 32}}, ["--net.width", "32"]),
        (
            "imf",
            {"name": "images", "path": "pictures", "size": 8},
            {"net": {"name": "unet", "channels": 32}},
            ["--data", "images", "--data.path", "pictures", "--data.size", "8"]
            + ["--net", "unet", "--net.channels", "32"],
        ),
    ],
)
def test_keywords_say_what_flags_say(method, data, settings, flags):
    assert config_of(method, data, settings) == parse(flags)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"stpes": 5}, "unknown setting 'stpes'; did you mean 'steps'"),
        ({"plugin": {"diagnal": 0.5}}, "setting of plugin 'diagnal'; did you mean 'diagonal'"),
        ({"plugin": {"guidance": {"mots": 4}}}, "of plugin.guidance 'mots'; did you mean 'most'"),
        ({"net": {"name": "unet", "chanels": 4}}, "of net 'chanels'; did you mean 'channels'"),
        ({"optim": {"rate": "fast"}}, "optim.rate 'fast' is not of the type float"),
        ({"steps": 1.5}, "steps 1.5 is not of the type int"),
        ({"optim": 1e-3}, "optim is a group of settings"),
        ({"net": "dti"}, "unknown network 'dti'; did you mean 'dit'"),
        ({"dry_run": True}, "unknown setting 'dry_run'"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_what_does_not_exist_is_one_line_with_the_nearest(settings, message):
    with pytest.raises(UserError, match=message) as raised:
        config_of("imf", "digits", settings)
    assert "\n" not in str(raised.value)


def test_a_class_has_the_preset_of_the_data_and_an_object_its_own_settings():
    assert config_of(IMF, "spiral", {}).plugin_flags == IMF.preset("points")
    assert config_of(IMF, "digits", {}) == config_of("imf", "digits", {})
    given = IMF(diagonal=0.75)  # pyright: ignore[reportCallIssue]
    assert config_of(given, "digits", {}).plugin_flags is given
    with pytest.raises(UserError, match="has its settings already"):
        config_of(given, "digits", {"plugin": {"diagonal": 0.5}})


@pytest.mark.parametrize(
    "shape, net, steps",
    [((2,), MLPConfig, 20_000), ((8, 8, 1), DiTConfig, 2300), ((28, 28, 1), DiTConfig, 10_000)],
)
def test_arrays_are_trained_by_the_recipe_that_suits_them(shape, net, steps):
    given = from_arrays(np.full((3, *shape), -1, np.float32))
    config = config_of("imf", {"name": "arrays", "path": "x.npz"}, {}, given)
    assert type(config.net_flags) is net and config.steps == steps
    assert config.data == "arrays" and config.data_flags.path == "x.npz"


def test_a_net_by_name_has_the_defaults_of_its_class():
    assert config_of("imf", "digits", {"net": "unet"}).net_flags == UNetConfig()
    assert config_of("imf", "digits", {}).data_flags == DigitsData()
    assert replace(config_of("imf", "digits", {}), steps=3) == config_of(
        "imf", "digits", {"steps": 3}
    )
