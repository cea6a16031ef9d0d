"""A configuration survives the way through TOML and flags; differences are named."""

import dataclasses

import pytest

import plugins as plugins
from core.data import DATA
from core.errors import UserError
from core.methods.registry import find_plugin
from core.methods.registry import plugins as all_plugins
from core.train import toml
from core.train.cli import parse, select
from core.train.config import LoopConfig, MeshConfig, OptimConfig, TrainConfig
from core.train.features import FeaturesConfig
from core.train.recipe import POINTS, recipe

FITTING = [(data, "mlp") for data in POINTS] + [
    (data, net) for data in DATA if data not in POINTS for net in ("dit", "unet")
]


OPTIM = OptimConfig(rate=0.002)


def there_and_back(config, tmp_path):
    file = tmp_path / "config.toml"
    toml.write(config, file)
    return parse(["--config", str(file)])


def read_back(config):
    """Without a command line, as a run that is opened reads it."""
    default = recipe(find_plugin(config.plugin), config.data, config.net)
    return toml.filled(default, toml.to_dict(config), "config.toml")


def without_place(config):
    return dataclasses.replace(config, config=None)


@pytest.mark.parametrize("data, net", FITTING)
def test_every_recipe_comes_back(data, net, tmp_path):
    config = recipe(find_plugin("mf"), data, net)
    assert without_place(there_and_back(config, tmp_path)) == config
    assert read_back(config) == config


@pytest.mark.parametrize("name", sorted({"fm", "mf", "imf"}))
def test_every_method_comes_back(name, tmp_path):
    assert set(all_plugins()) >= {"fm", "mf", "imf"}
    config = recipe(find_plugin(name), "digits", None)
    assert without_place(there_and_back(config, tmp_path)) == config


def test_values_of_every_kind_come_back(tmp_path):
    config = recipe(find_plugin("imf"), "arrays", "unet")
    changed = dataclasses.replace(
        config,
        plugin_flags=dataclasses.replace(config.plugin_flags, head=True, time_mean=-1e-7),
        data_flags=DATA["arrays"](path="a folder/my_file-1.npz", labels=""),
        net_flags=dataclasses.replace(config.net_flags, multipliers=(1,), attention=()),
        optim=OptimConfig(rate=3e-05, schedule="inverse-root"),
        mesh=MeshConfig(data=0),
        evals=(3,),
        teacher="runs/fm-digits",
        seed=2**31,
    )
    assert without_place(there_and_back(changed, tmp_path)) == changed
    assert read_back(changed) == changed


def test_what_does_not_shape_the_run_is_not_kept(tmp_path):
    config = recipe(find_plugin("fm"), "spiral", None)
    one = dataclasses.replace(config, run="runs/x", json=True, dry_run=True, restart=True)
    assert toml.to_dict(one) == toml.to_dict(config)
    assert without_place(there_and_back(one, tmp_path)) == config


def test_flags_beside_a_file_override_it(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('steps = 7\nbatch = 9\n[plugin]\nname = "mf"\ndiagonal = 0.25\n')
    config = parse(["--config", str(file), "--steps", "8", "--plugin.diagonal", "0.5"])
    assert (config.plugin, config.steps, config.batch) == ("mf", 8, 9)
    assert config.plugin_flags.diagonal == 0.5


def test_help_lists_what_is_chosen_before_how_it_is_trained():
    for kind, chosen in ((TrainConfig, toml.SELECTORS), (FeaturesConfig, ("task", "data"))):
        names = [item.name for item in dataclasses.fields(kind)]
        assert tuple(names[: len(chosen)]) == chosen
        assert names.index("run") < names.index("steps") < names.index("dispatch")
        assert set(names) > {item.name for item in dataclasses.fields(LoopConfig)}


def test_selectors_in_a_file_select(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text('[plugin]\nname = "fm"\n[data]\nname = "spiral"\nn = 64\n[net]\nname = "mlp"\n')
    chosen = select(["--config", str(file)])
    assert (chosen.plugin, chosen.data, chosen.net) == ("fm", "spiral", "mlp")
    assert chosen.flags[-2:] == ["--config", str(file)]
    over = select(["--config", str(file), "--plugin", "mf"])
    assert over.plugin == "mf"


def test_flags_are_spelled_as_a_user_spells_them():
    tree = {"steps": 3, "plugin": {"name": "imf", "head": True, "label_drop": 0.1}}
    tree |= {"net": {"multipliers": [1, 2], "guidance": False}, "evals": []}
    assert toml.to_flags(tree) == [
        "--steps", "3",
        "--plugin", "imf", "--plugin.head", "--plugin.label-drop", "0.1",
        "--net.multipliers", "1", "2", "--net.no-guidance",
        "--evals",
    ]  # fmt: skip


def difference(old, **changes):
    return toml.difference(toml.to_dict(old), toml.to_dict(dataclasses.replace(old, **changes)))


def test_the_first_difference_is_named_as_the_flag():
    config = dataclasses.replace(recipe(find_plugin("imf"), "digits", None), steps=30, optim=OPTIM)
    assert difference(config) is None
    assert difference(config, steps=5) == "--steps 30 there, 5 asked"
    faster = dataclasses.replace(OPTIM, rate=0.1)
    assert difference(config, optim=faster) == "--optim.rate 0.002 there, 0.1 asked"
    flags = dataclasses.replace(config.plugin_flags, time_mean=0.5)
    assert difference(config, plugin_flags=flags) == "--plugin.time-mean -0.4 there, 0.5 asked"
    assert difference(config, teacher="a") == "--teacher None there, a asked"


def test_another_method_is_named_rather_than_its_flags():
    config = recipe(find_plugin("imf"), "digits", None)
    other = recipe(find_plugin("fm"), "digits", None)
    found = toml.difference(toml.to_dict(config), toml.to_dict(other))
    assert found == "--plugin imf there, fm asked"


def test_values_are_shown_as_they_are():
    old = {"data": {"path": "my_data"}}
    assert toml.difference(old, {"data": {"path": "b_c"}}) == (
        "--data.path my_data there, b_c asked"
    )


def test_what_is_no_toml_is_refused(tmp_path):
    file = tmp_path / "c.toml"
    with pytest.raises(UserError, match="no config file .*c.toml"):
        toml.read(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not readable TOML"):
        toml.read(file)
