"""Defaults by data set: each fits its data, and flags override them."""

import numpy as np
import pytest

import plugins as plugins
from core.data import DATA
from core.errors import UserError
from core.methods.registry import find_plugin
from core.nets import NETS, DiTConfig, MLPConfig, UNetConfig
from core.train.cli import parse
from core.train.recipe import POINTS, recipe

IMF = find_plugin("imf")


@pytest.mark.parametrize("data", DATA)
def test_the_network_fits_the_kind_of_data(data):
    config = recipe(IMF, data, None)
    assert config.data == data and type(config.data_flags) is DATA[data]
    assert type(config.net_flags) is NETS[config.net]
    assert (config.net == "mlp") == (data in POINTS)
    assert type(config.plugin_flags) is IMF


def test_points_are_what_loads_as_points():
    free = {name for name in POINTS if not hasattr(DATA[name](), "path")}
    assert {name for name in (*free, "digits") if DATA[name]().load().kind == "points"} == free


def test_the_main_job_is_digits_with_the_transformer():
    config = parse([])
    assert (config.plugin, config.data, config.net) == ("imf", "digits", "dit")
    assert config == recipe(IMF, "digits", None)
    assert config.folder == "runs/imf-digits"


@pytest.mark.parametrize(
    "flags, kind", [(["--net", "unet"], UNetConfig), (["--data", "spiral"], MLPConfig)]
)
def test_a_selector_changes_the_network_and_keeps_the_rest(flags, kind):
    assert type(parse(flags).net_flags) is kind
    assert type(parse([*flags, "--steps", "7"]).net_flags) is kind


def test_the_closing_table_leaves_out_evaluations_that_mean_nothing():
    assert parse(["--plugin", "drift"]).evals == (1,)
    assert parse(["--plugin", "imf"]).evals == (1, 2, 4, 8)
    assert parse(["--plugin", "drift", "--evals", "1", "2"]).evals == (1, 2)


def test_flags_override_the_recipe():
    config = parse(["--net.width", "32", "--plugin.no-head", "--optim.rate", "0.5", "--steps", "3"])
    assert config.net_flags == DiTConfig(width=32)
    assert (config.optim.rate, config.steps) == (0.5, 3)
    assert config.batch == recipe(IMF, "digits", None).batch


@pytest.mark.parametrize("data", ["eight-gaussians", "digits", "cifar10"])
def test_tuning_is_shorter_and_slower_and_otherwise_the_same(data):
    full, tuned = (recipe(find_plugin(name), data, None) for name in ("imf", "fdloss"))
    assert tuned.steps < full.steps / 4 and tuned.optim.rate < full.optim.rate / 10
    assert tuned.optim.warmup < tuned.steps / 10
    assert (tuned.net_flags, tuned.batch) == (full.net_flags, full.batch)


def test_an_unknown_network_is_named_with_its_nearest():
    with pytest.raises(UserError, match="unknown network 'unett'; did you mean 'unet'"):
        recipe(IMF, "digits", "unett")


@pytest.mark.parametrize(
    "shape, flags, net, patch",
    [
        ((5, 7), [], "mlp", None),
        ((5, 64, 2), ["--data.kind", "series"], "dit", 4),
        ((5, 101, 2), ["--data.kind", "series"], "dit", 1),
        ((5, 187), ["--data.kind", "series"], "dit", 11),
        ((5, 4096, 1), ["--data.kind", "series"], "dit", 16),
        ((5, 32, 32, 7), [], "dit", 4),
    ],
)
def test_arrays_have_the_recipe_of_their_shape(tmp_path, shape, flags, net, patch):
    """The network is known before its flags are read."""
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    np.savez(tmp_path / "x.npz", x=np.zeros(shape, np.float32))
    for file in ("x.npy", "x.npz"):
        named = ["--data", "arrays", "--data.path", str(tmp_path / file), *flags]
        config = parse([*named, "--net.width", "24"])
        assert (config.net, config.net_flags.width) == (net, 24)
        assert getattr(config.net_flags, "patch", None) == patch
        assert config.plugin_flags == IMF.preset("points" if net == "mlp" else "image")
    if net == "mlp":
        assert parse([*named, "--net.activation", "gelu"]).net_flags.activation == "gelu"
