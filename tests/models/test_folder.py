"""A model folder gives back the network that was written, and is read as a stranger's."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap, EndpointMap
from core.flow.path import CosinePath, EDMPath, LinearPath, VPPath
from core.layouts import autoencoder_kl, diffusers_unet, dit, edm, edm2, imf, meanflow, names, sit
from core.models import check_place, is_model, open_autoencoder, open_model, write_model
from core.tensors import sha256
from tests.layouts import diffusers_networks, dit_files, edm2_networks, edm_networks, imf_files
from tests.layouts.test_autoencoder_kl import CONFIG, made
from tests.layouts.test_diffusers_unet import DDPM

HEADS, SIDE, C = dit_files.HEADS, dit_files.SIDE, dit_files.CHANNELS
SOURCE = {"kind": "sit", "file": "F.pt", "sha256": "a" * 64, "licence": "MIT", "title": "SiT"}


def of_sit(rng, **how):
    tensors = dit_files.torch_dit(C)
    return sit.options_of(tensors, heads=HEADS, **how), tensors


def of_dit(rng):
    tensors = dit_files.torch_dit(2 * C)
    return dit.options_of(tensors, heads=HEADS, null_class=False), tensors


def of_meanflow(rng):
    tensors = dit_files.flax_meanflow()
    return meanflow.options_of(tensors, heads=HEADS, side=SIDE), tensors


def of_imf(rng):
    tensors = imf_files.tensors(True)
    return imf.options_of(tensors, side=SIDE), tensors


def of_edm(rng):
    tensors = edm_networks.made(rng, "ncsn++")
    return edm.options_of(tensors, head_channels=edm_networks.HEAD), tensors


def of_edm2(rng):
    tensors = edm2_networks.made(rng)
    return edm2.options_of(tensors, head_channels=edm2_networks.HEAD), tensors


def of_unet(rng):
    tensors = diffusers_networks.unet(rng, DDPM)
    return diffusers_unet.options_of(tensors, DDPM, "squaredcos_cap_v2 100", "x_0"), tensors


CASES = {
    "sit": (of_sit, "official-dit", AverageVelocityMap, LinearPath, "reversed", None, False),
    "gvp": (lambda rng: of_sit(rng, clock="reversed_cosine"), "official-dit", AverageVelocityMap,
            CosinePath, "reversed_cosine", None, False),
    "dit": (of_dit, "official-dit", EndpointMap, VPPath, dit.CLOCK, "noise", True),
    "meanflow": (of_meanflow, "official-dit", AverageVelocityMap, LinearPath, "unit", None, False),
    "imf": (of_imf, "imf-dit", AverageVelocityMap, LinearPath, "unit", None, False),
    "edm": (of_edm, "edm-unet", EndpointMap, EDMPath, "unit", "edm", True),
    "edm2": (of_edm2, "edm2-unet", EndpointMap, EDMPath, "unit", "edm", True),
    "unet": (of_unet, "diffusers-unet", EndpointMap, CosinePath, "squaredcos_cap_v2 100", "x_0",
             False),
}  # fmt: skip
"""Layouts: network, form of the map, path, clock, prediction, and whether a null class is not."""


@pytest.mark.parametrize("name", CASES)
def test_what_was_written_is_opened(name, rng, tmp_path):
    make, net_name, form, path, clock, prediction, without = CASES[name]
    found, tensors = make(rng)
    net = found.network(tensors)
    write_model(tmp_path / "m", found, net, SOURCE, scaling={"scaling_factor": 0.18215})
    opened = open_model(tmp_path / "m")
    assert is_model(tmp_path / "m") and not is_model(tmp_path)
    assert jax.tree.structure(opened.net) == jax.tree.structure(net)
    for ours, theirs in zip(jax.tree.leaves(opened.net), jax.tree.leaves(net)):
        np.testing.assert_array_equal(ours, theirs)
    assert (opened.net_name, opened.net_flags) == (net_name, found.config)
    assert type(opened.flow_map) is form and type(opened.path) is path
    assert (opened.clock, opened.prediction) == (clock, prediction)
    assert opened.trained_without_null == without
    assert (opened.spec.shape, opened.spec.num_classes) == (found.shape, found.num_classes)
    assert opened.spec.kind == "image" and opened.scaling == {"scaling_factor": 0.18215}
    assert (opened.licence, opened.title, opened.source["file"]) == ("MIT", "SiT", "F.pt")


def test_the_file_of_weights_has_the_places_in_the_network(rng, tmp_path):
    found, tensors = of_sit(rng)
    net = found.network(tensors)
    write_model(tmp_path / "m", found, net, SOURCE)
    arrays = load_file(tmp_path / "m" / "weights.safetensors")
    assert set(arrays) == set(names(net)) and "blocks.qkv.weight" in arrays
    given = np.stack([tensors[f"blocks.{i}.attn.qkv.weight"] for i in range(2)])
    np.testing.assert_array_equal(arrays["blocks.qkv.weight"], given)


def test_sixteen_bits_are_kept_where_asked(rng, tmp_path):
    found, tensors = of_edm2(rng)
    tensors = {name: value.astype(np.float16) for name, value in tensors.items()}
    net = found.network(tensors)
    write_model(tmp_path / "m", found, net, SOURCE, precision="float16")
    arrays = load_file(tmp_path / "m" / "weights.safetensors")
    assert {array.dtype.name for array in arrays.values()} == {"float16"}
    for ours, theirs in zip(jax.tree.leaves(open_model(tmp_path / "m").net), jax.tree.leaves(net)):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


def test_an_autoencoder_is_opened(rng, tmp_path):
    tensors = made(rng)
    found = autoencoder_kl.options_of(tensors, CONFIG)
    net = found.network(tensors)
    write_model(tmp_path / "m", found, net, SOURCE | {"kind": "autoencoder-kl"})
    opened = open_autoencoder(tmp_path / "m")
    assert opened.config == found.config and opened.depth == 3
    assert opened.scaling == {"scaling_factor": 0.18215}
    for ours, theirs in zip(jax.tree.leaves(opened.net), jax.tree.leaves(net)):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="holds an autoencoder and no flow map; give it to python"):
        open_model(tmp_path / "m")


def small(folder, rng):
    """A folder of a small network."""
    found, tensors = of_sit(rng)
    write_model(folder, found, found.network(tensors), SOURCE)


def test_a_folder_of_something_else_is_left_alone(rng, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "thesis.txt").write_text("words")
    with pytest.raises(UserError, match="holds something else, and nothing in it was touched"):
        small(folder, rng)
    assert [one.name for one in tmp_path.rglob("*")] == ["m", "thesis.txt"]
    (folder / "thesis.txt").unlink()
    small(folder, rng)  # an empty one is taken
    check_place(folder, SOURCE)
    with pytest.raises(UserError, match=r"is the model of another file \(F.pt\)"):
        check_place(folder, SOURCE | {"sha256": "b" * 64})
    (folder / "config.toml").write_text("")  # a run's
    assert not is_model(folder)
    with pytest.raises(UserError, match="holds something else"):
        check_place(folder, SOURCE)
    with pytest.raises(UserError, match="is a file; name a folder"):
        check_place(folder / "config.toml", SOURCE)


def test_the_same_file_again_takes_the_place(rng, tmp_path):
    small(tmp_path / "m", rng)
    (tmp_path / "m" / "note.txt").write_text("mine")
    (tmp_path / "m" / "weights.safetensors").write_bytes(b"damaged")
    small(tmp_path / "m", rng)
    assert open_model(tmp_path / "m").kind == "sit"
    assert (tmp_path / "m" / "note.txt").read_text() == "mine"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m"]


def test_a_write_that_fails_leaves_nothing(rng, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.models.folder.write_text", full)
    with pytest.raises(OSError):
        small(tmp_path / "a" / "b" / "m", rng)
    assert list(tmp_path.iterdir()) == []


def edited(pattern, text):
    def change(folder):
        file = folder / "model.toml"
        content, count = re.subn(pattern, text, file.read_text(), flags=re.MULTILINE)
        assert count == 1
        file.write_text(content)

    return change


def rewritten(change):
    """Other weights, with the hash that model.toml says."""

    def write(folder):
        arrays = load_file(folder / "weights.safetensors")
        save_file(change(arrays), folder / "weights.safetensors")
        digest = sha256(folder / "weights.safetensors")
        edited(r"^weights_sha256 = .*$", f'weights_sha256 = "{digest}"')(folder)

    return write


def replaced(name, content):
    return lambda folder: (folder / name).write_bytes(content)


HOSTILE = {
    "no model.toml": (lambda f: (f / "model.toml").unlink(), "is no model folder"),
    "no TOML": (replaced("model.toml", b"= ="), "model.toml is damaged"),
    "no text": (replaced("model.toml", b"\xff\xfe"), "model.toml is damaged"),
    "too long": (replaced("model.toml", b"#" * 2**21), "more than 1,048,576 bytes"),
    "nested": (replaced("model.toml", b"a = " + b"[" * 10**5), "model.toml is damaged"),
    "of another program": (edited('"model"$', '"run"'), "is not of Portolan"),
    "of a later format": (edited("^format = 1", "format = 2"), "is of format 2"),
    "a key too many": (edited("^kind", "trust = true\nkind"), "'trust' is nothing that"),
    "a key missing": (edited("^weights_sha256.*$", ""), "it does not say weights_sha256"),
    "a kind of another type": (edited("^kind = .*", "kind = 3"), "kind 3 is not of the type str"),
    "no image": (edited(r"^shape = \[\n[^]]*\]", "shape = [6, 6]"), "are no images"),
    "a huge image": (edited(r"^shape = \[\n[^]]*\]", "shape = [60000, 6, 3]"), "are no images"),
    "an unknown prediction": (
        edited("^prediction = .*", 'prediction = "x"'), "prediction 'x' is not of the type"),
    "a hash of another file": (
        edited("^weights_sha256 = .*", 'weights_sha256 = "00"'), "is damaged or of another model"),
    "an unknown network": (edited('^name = .*', 'name = "lstm"'), "there is no network 'lstm'"),
    "a flag too many": (edited("^patch = 2", "patch = 2\nfast = 1"), "'fast' is nothing that"),
    "a width of a terabyte": (edited("^width = .*", "width = 10000000000"), "width is far too"),
    "a width that is not finite": (edited("^mlp_ratio = .*", "mlp_ratio = inf"), "far too large"),
    "another width": (edited("^width = .*", "width = 32"), "has positions .9, 24., not those"),
    "a depth of a million": (edited("^depth = .*", "depth = 1000000"), "is not of the network in"),
    "no patches": (edited("^patch = .*", "patch = 0"), "patch must be at least 1"),
    "heads that do not divide": (edited("^heads = .*", "heads = 7"), "no such network"),
    "an unknown clock": (edited("^clock = .*", 'clock = "x"'), "no clock is called 'x'"),
    "a clock of all steps": (
        edited("^clock = .*", 'clock = "squaredcos_cap_v2 1e300"'), "is none: write"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "has no weights.safetensors"),
    "damaged weights": (replaced("weights.safetensors", b"\0" * 99), "is damaged or of another"),
    "a missing array": (
        rewritten(lambda w: {k: v for k, v in w.items() if k != "patches.bias"}),
        "missing: patches.bias"),
    "an array too many": (
        rewritten(lambda w: w | {"../../x": w["patches.bias"]}), r"not used: \.\./\.\./x"),
    "an array of another shape": (
        rewritten(lambda w: w | {"patches.bias": np.zeros(3, np.float32)}),
        r"patches.bias is \(3,\), the network has \(24,\)"),
    "no source": (lambda f: (f / "source.json").unlink(), "source.json cannot be read"),
    "a source of nothing": (replaced("source.json", b"[1]"), "source.json is not as it was"),
    "a nested source": (replaced("source.json", b"[" * 10**5), "source.json cannot be read"),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("model") / "m"
    small(place, np.random.default_rng(0))
    return {one.name: one.read_bytes() for one in place.iterdir()}


@pytest.mark.parametrize("change, message", HOSTILE.values(), ids=HOSTILE)
def test_it_is_refused_in_one_line(change, message, folder, tmp_path):
    for name, content in folder.items():
        (tmp_path / name).write_bytes(content)
    change(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        open_model(tmp_path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


def test_what_was_changed_above_is_whole(folder, tmp_path):
    for name, content in folder.items():
        (tmp_path / name).write_bytes(content)
    opened = open_model(tmp_path)
    assert opened.source == SOURCE and json.loads(folder["source.json"]) == SOURCE
    assert dataclasses.asdict(opened.net_flags)["clock"] == "reversed"
