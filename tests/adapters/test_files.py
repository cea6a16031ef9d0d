"""Adapters in files: three foreign styles give one result, keys are those that the styles have."""

import dataclasses
import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.adapters import adapter_of, read_adapter, with_adapters, write_adapter
from core.adapters.modules import modules_of
from core.adapters.places import layers
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.layouts import filled, unfilled
from core.layouts.networks import table_of
from tests.adapters.nets import CLASSES, CONFIGS, SHAPE, base_of, changed, dense
from tests.nets.randomised import noise, skeleton

SIT = {"qkv": "attn.qkv", "merge": "attn.proj", "up": "mlp.fc1", "down": "mlp.fc2"}
FEED = ("ff.net.0.proj", "ff.net.2")
DIFFUSERS = (
    "attn1.to_q",
    "attn1.to_k",
    "attn1.to_v",
    "attn1.to_out.0",
    "ff.net.0.proj",
    "ff.net.2",
)


def numbers(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def weights(tree):
    return {name: np.asarray(layer.weight) for name, layer in layers(tree).items()}


def read(path, base):
    return weights(with_adapters(base, [(read_adapter(path, base, SHAPE), 1.0)]))


def written(tmp_path, base, keys, adapter):
    folder = tmp_path / keys
    write_adapter(adapter, folder, keys, base, SHAPE)
    files = sorted(path.name for path in folder.iterdir())
    (name,) = [name for name in files if name.endswith(".safetensors")]
    return folder, name, load_file(folder / name)


def test_the_keys_are_those_of_peft_diffusers_and_kohya(tmp_path, getkey):
    """By the tables of the styles: names in full, and where the scale is."""
    base = base_of("sit", getkey())
    adapter = adapter_of(changed(base, getkey(), rank=2, alpha=3.0))
    stems = [f"blocks.{i}.{part}" for i in range(2) for part in SIT.values()]
    folder, name, peft = written(tmp_path, base, "peft", adapter)
    assert name == "adapter_model.safetensors"
    assert set(peft) == {f"base_model.model.{s}.lora_{p}.weight" for s in stems for p in "AB"}
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA" and settings["r"] == 2 and settings["lora_alpha"] == 3.0
    assert sorted(settings["target_modules"]) == sorted(stems)
    assert not settings["use_rslora"] and not settings["use_dora"] and settings["bias"] == "none"
    assert peft["base_model.model.blocks.1.attn.qkv.lora_A.weight"].shape == (2, 16)
    assert peft["base_model.model.blocks.1.attn.qkv.lora_B.weight"].shape == (48, 2)
    _, _, kohya = written(tmp_path, base, "kohya", adapter)
    flat = ["lora_unet_" + stem.replace(".", "_") for stem in stems]
    ends = ("lora_down.weight", "lora_up.weight", "alpha")
    assert set(kohya) == {f"{stem}.{end}" for stem in flat for end in ends}
    assert all(kohya[f"{stem}.alpha"].shape == () and kohya[f"{stem}.alpha"] == 3 for stem in flat)
    base = base_of("diffusers-dit", getkey())
    adapter = adapter_of(changed(base, getkey()))
    _, _, diffusers = written(tmp_path, base, "diffusers", adapter)
    stems = [f"transformer.transformer_blocks.{i}.{part}" for i in range(2) for part in DIFFUSERS]
    assert set(diffusers) == {f"{stem}.lora_{part}.weight" for stem in stems for part in "AB"}


@pytest.mark.parametrize("name", CONFIGS)
def test_an_adapter_is_the_same_in_each_style(name, tmp_path, getkey):
    """What a file of each style gives is what the adapter gives, layer by layer."""
    if name == "mlp":
        return
    base = base_of(name, getkey())
    adapter = adapter_of(changed(base, getkey()))
    expected, before = weights(with_adapters(base, [(adapter, 1.0)])), weights(base)
    for keys in ("own", "peft", "diffusers", "kohya"):
        folder, file, _ = written(tmp_path, base, keys, adapter)
        found = read(folder / file, base)
        for layer, values in expected.items():
            np.testing.assert_allclose(found[layer], values, atol=1e-6, err_msg=f"{keys} {layer}")
    moved = [layer for layer in expected if not np.array_equal(expected[layer], before[layer])]
    assert sorted(moved) == sorted(f"net.{layer}" for layer in adapter.layers)


@pytest.mark.parametrize("name", ["sit", "diffusers-dit", "edm", "diffusers-unet"])
def test_merged_before_the_conversion_is_merged_after_it(name, tmp_path, getkey):
    """In the foreign file `W + scale B A` by NumPy, then our converter; against the adapter's file
    on the converted network. The order of rows, as in EDM's attention, is the converter's."""
    config = CONFIGS[name]
    if name == "sit":  # as it is published
        config = dataclasses.replace(config, times="s", positions="stored")
    net = noise(skeleton(config, SHAPE, CLASSES), getkey(), 0.2)
    base, table = AverageVelocityMap(net=net, path=LinearPath()), table_of(net, SHAPE)
    tensors, arrays = unfilled(net, table), {}
    for n, path in enumerate(modules_of(base, SHAPE)):
        weight = tensors[f"{path}.weight"]
        A, B = numbers(3, *weight.shape[1:]) + n % 5, numbers(len(weight), 3) - n % 3
        A, B = 0.1 * A, 0.1 * B
        tensors[f"{path}.weight"] = weight + 2 / 3 * np.einsum("or,ri...->oi...", B, A)
        B = B.reshape(*B.shape, *[1] * (weight.ndim - 2))
        before = f"base_model.model.{path}"
        arrays |= {f"{before}.lora_A.weight": A, f"{before}.lora_B.weight": B}
    path = stored(tmp_path, arrays, {}, {"r": 3, "lora_alpha": 2.0})
    expected = filled(skeleton(config, SHAPE, CLASSES), table, tensors)
    found, before = read(path, base), weights(base)
    for layer, values in weights(expected).items():
        np.testing.assert_allclose(found[f"net.{layer}"], values, atol=1e-5, err_msg=layer)
    moved = sum(not np.array_equal(found[layer], before[layer]) for layer in before)
    assert moved > 5


def foreign(stems, style, rank=4, alpha=2.0, settings=None, prefix="transformer."):
    """The file of some modules, as another program writes it: arrays, head, settings."""
    arrays, head = {}, {}
    for n, (stem, (out, inside)) in enumerate(stems.items()):
        A, B = numbers(rank, inside) + n, numbers(out, rank) - n
        if style == "kohya":
            flat = "lora_unet_" + stem.replace(".", "_")
            arrays |= {f"{flat}.lora_down.weight": A, f"{flat}.lora_up.weight": B}
            arrays[f"{flat}.alpha"] = np.float32(alpha)
        elif style == "old":
            arrays |= {f"{prefix}{stem}.lora.down.weight": A, f"{prefix}{stem}.lora.up.weight": B}
        else:
            before = "base_model.model." if style == "peft" else prefix
            arrays |= {f"{before}{stem}.lora_A.weight": A, f"{before}{stem}.lora_B.weight": B}
    if style == "diffusers":
        own = {f"{prefix}r": rank, f"{prefix}lora_alpha": alpha}
        head = {"lora_adapter_metadata": json.dumps(own)}
    return arrays, head, {"r": rank, "lora_alpha": alpha, **(settings or {})}


def stored(tmp_path, arrays, head, settings):
    path = tmp_path / "a.safetensors"
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, path, head)
    (tmp_path / "adapter_config.json").write_text(json.dumps(settings))
    return path


SPLIT = {f"transformer_blocks.1.attn1.to_{part}": (16, 16) for part in "qv"}
SPLIT |= {"transformer_blocks.0.ff.net.2": (16, 64)}


@pytest.mark.parametrize(
    "style, scale", [("peft", 0.5), ("diffusers", 0.5), ("kohya", 0.5), ("old", 1)]
)
def test_separate_queries_and_values_become_blocks_of_one_matrix(style, scale, tmp_path, getkey):
    """`W + scale B A` in the rows of each module, by NumPy; the other rows stay."""
    base = base_of("diffusers-dit", getkey())
    path = stored(tmp_path, *foreign(SPLIT, style))
    found, before = read(path, base), weights(base)
    qkv = before["net.blocks.qkv"].astype(np.float64)
    for n, rows in ((0, slice(0, 16)), (1, slice(32, 48))):
        qkv[1, rows] += dense(numbers(4, 16) + n, numbers(16, 4) - n, scale)
    np.testing.assert_allclose(found["net.blocks.qkv"], qkv, atol=2e-5)
    down = before["net.blocks.down"].astype(np.float64)
    down[0] += dense(numbers(4, 64) + 2, numbers(16, 4) - 2, scale)
    np.testing.assert_allclose(found["net.blocks.down"], down, atol=2e-5)
    np.testing.assert_array_equal(found["net.blocks.up"], before["net.blocks.up"])


@pytest.mark.parametrize(
    "settings, scale",
    [
        ({"use_rslora": True}, 1.0),  # 2 / sqrt(4)
        ({"alpha_pattern": {"attn1.to_q": 8.0}}, 2.0),
        ({"alpha_pattern": {"to_k": 8.0}}, 0.5),
    ],
)
def test_the_settings_of_peft_give_the_scale(settings, scale, tmp_path, getkey):
    base, (stem, *_) = base_of("diffusers-dit", getkey()), SPLIT
    path = stored(tmp_path, *foreign({stem: (16, 16)}, "peft", settings=settings))
    change = read(path, base)["net.blocks.qkv"] - weights(base)["net.blocks.qkv"]
    expected = dense(numbers(4, 16), numbers(16, 4), scale)
    np.testing.assert_allclose(change[1, :16], expected, atol=2e-5)


ONE = {"blocks.0.attn.qkv": (48, 16)}


def with_key(key, shape=(4,)):
    arrays, head, settings = foreign(ONE, "kohya")
    return arrays | {key: numbers(*shape)}, head, settings


REFUSED = {
    "DoRA of kohya": (with_key("lora_unet_blocks_0_attn_qkv.dora_scale"), "of the form DoRA"),
    "DoRA of peft": (
        with_key("base_model.model.blocks.0.attn.qkv.lora_magnitude_vector"), "of the form DoRA",
    ),
    "LoHa": (with_key("lora_unet_blocks_0_attn_qkv.hada_w1_a"), "of the form LoHa"),
    "LoKr": (with_key("lora_unet_blocks_0_attn_qkv.lokr_w1"), "of the form LoKr"),
    "use_dora": (foreign(ONE, "peft", settings={"use_dora": True}), "of the form DoRA"),
    "LOHA": (foreign(ONE, "peft", settings={"peft_type": "LOHA"}), "of the form LOHA"),
    "biases": (foreign(ONE, "peft", settings={"bias": "all"}), "LoRA with biases"),
    "no number": (foreign(ONE, "peft", settings={"lora_alpha": "x"}), "no finite number"),
    "text encoder": (
        with_key("lora_te_text_model_encoder_layers_0.lora_down.weight"), "lora_te_text_model",
    ),
    "another network": (foreign({"blocks.7.attn.qkv": (48, 16)}, "peft"), "blocks.7.attn.qkv"),
    "another width": (foreign({"blocks.0.attn.qkv": (96, 32)}, "peft"), r"asks for \(4, 16\)"),
    "one matrix": (
        ({"base_model.model.blocks.0.attn.qkv.lora_A.weight": numbers(4, 16)}, {}, {}),
        "one of the two matrices of blocks.0.attn.qkv alone",
    ),
    "nothing": (({"weight": numbers(2)}, {}, {}), "has weight, and this network no such layers"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_lora_of_this_network_is_one_line(case, tmp_path, getkey):
    (arrays, head, settings), message = REFUSED[case]
    path = stored(tmp_path, arrays, head, settings)
    with pytest.raises(UserError, match=message) as error:
        read_adapter(path, base_of("sit", getkey()), SHAPE)
    assert "\n" not in str(error.value)


def test_only_safetensors_are_read(tmp_path, getkey):
    base = base_of("sit", getkey())
    (tmp_path / "a.bin").write_bytes(b"\x80\x02}q\x00." * 9)
    for path, message in (
        (tmp_path / "a.bin", "a.bin is no safetensors file"),
        (tmp_path / "none", "no adapter .*none"),
        (tmp_path, "holds no adapter"),
    ):
        with pytest.raises(UserError, match=message):
            read_adapter(path, base, SHAPE)
    path = stored(tmp_path, *foreign(ONE, "peft"))
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(UserError, match="whose scale is in adapter_config.json beside it"):
        read_adapter(path, base, SHAPE)
