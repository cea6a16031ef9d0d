"""Published transformers: their files give the outputs of their networks restated in NumPy."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.layouts import diffusers_dit, dit, imf, meanflow, sit, unfilled
from tests.compiling import once
from tests.layouts import dit_files as files
from tests.layouts import imf_files

LABELS = np.int32([3, files.CLASSES])  # the last is for no label


def torch_reference(w):
    names = {"ada": "adaLN_modulation.1", "qkv": "attn.qkv", "proj": "attn.proj",
             "fc1": "mlp.fc1", "fc2": "mlp.fc2", "linear": "linear"}  # fmt: skip

    def get(name):
        at, part = name.split(".", 1)
        start = "final_layer" if at == "final" else f"blocks.{at}"
        key = f"{start}.{names[part]}" if at in ("final", *"01") else name
        return w[f"{key}.weight"], w[f"{key}.bias"]

    patch = w["x_embedder.proj.weight"], w["x_embedder.proj.bias"]
    net = files.Reference(get, patch, w["pos_embed"][0])

    def run(x, s, t, label):
        e = files.number(net.dense, "t_embedder.mlp.", 0, 2, s)
        return net(x, [e + w["y_embedder.embedding_table.weight"][label]] * files.DEPTH)

    return run


def flax_reference(w):
    names = {"ada": "adaLN_modulation.layers_1", "qkv": "attn.qkv", "proj": "attn.proj",
             "fc1": "mlp.fc1", "fc2": "mlp.fc2", "linear": "linear"}  # fmt: skip

    def get(name):
        at, part = name.split(".", 1)
        start = "final_layer" if at == "final" else f"blocks.layers_{at}"
        key = f"{start}.{names[part]}" if at in ("final", *"01") else name
        return w[f"{key}._flax_linear.kernel"].T, w[f"{key}._flax_linear.bias"]

    kernel = w["x_embedder.proj.kernel"].transpose(3, 2, 0, 1)
    net = files.Reference(get, (kernel, w["x_embedder.proj.bias"]), files.table())

    def run(x, s, t, label):
        e = files.number(net.dense, "t_embedder.mlp.layers_", 0, 2, s)
        e = e + files.number(net.dense, "h_embedder.mlp.layers_", 0, 2, np.float64(s) - t)
        e = e + w["y_embedder.embedding_table._flax_embedding.embedding"][label]
        return net(x, [e] * files.DEPTH)

    return run


def diffusers_reference(w):
    names = {"ada": "norm1.linear", "proj": "attn1.to_out.0", "fc1": "ff.net.0.proj",
             "fc2": "ff.net.2"}  # fmt: skip

    def one(key):
        return w[f"{key}.weight"], w[f"{key}.bias"]

    def get(name):
        at, part = name.split(".", 1)
        if at == "final":
            return one({"ada": "proj_out_1", "linear": "proj_out_2"}[part])
        if at not in "01":
            return one(name)
        if part == "qkv":
            parts = [one(f"transformer_blocks.{at}.attn1.to_{which}") for which in "qkv"]
            return tuple(np.concatenate(arrays) for arrays in zip(*parts))
        return one(f"transformer_blocks.{at}.{names[part]}")

    net = files.Reference(get, one("pos_embed.proj"), files.table(), mlp_eps=EPS)

    def run(x, s, t, label):
        embedded = []
        for i in range(files.DEPTH):
            start = f"transformer_blocks.{i}.norm1.emb."
            e = files.number(net.dense, f"{start}timestep_embedder.linear_", 1, 2, s, last=1)
            embedded.append(e + w[f"{start}class_embedder.embedding_table.weight"][label])
        return net(x, embedded)

    return run


EPS = 0.01  # far from that of the other norms
C, HEADS, SIDE = files.CHANNELS, files.HEADS, files.SIDE
CASES = {
    # layout, tensors, restatement, times fed in, error allowed of values of about 4
    "sit": (lambda w: sit.options_of(w, heads=HEADS), files.torch_dit(2 * C), torch_reference,
            [0.31, 0.97], 2e-6),
    "dit": (lambda w: dit.options_of(w, heads=HEADS), files.torch_dit(C), torch_reference,
            [17, 999], 1e-5),
    "meanflow": (lambda w: meanflow.options_of(w, heads=HEADS, side=SIDE), files.flax_meanflow(),
                 flax_reference, [0.31, 0.97], 8e-7),
    "diffusers": (lambda w: diffusers_dit.options_of(w, heads=HEADS, side=SIDE, norm_eps=EPS),
                  files.diffusers_dit(2 * C), diffusers_reference, [17, 999], 2e-5),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_network_is_the_one_of_the_file(name, normal):
    options_of, tensors, reference, times, allowed = CASES[name]
    layout = options_of(tensors)
    net, x = layout.network(tensors), normal(2, SIDE, SIDE, C)
    s, t = np.float32(times), np.float32(times) / 3
    run = jax.vmap(lambda x, s, t, label: net.native(x, s, t, Condition(label)))
    found = once(run)(x, s, t, LABELS)
    wanted = [reference(tensors)(*at) for at in zip(x.transpose(0, 3, 1, 2), s, t, LABELS)]
    wanted = np.stack(wanted).transpose(0, 2, 3, 1)
    size, error = np.abs(wanted).max(), np.abs(found - wanted).max()
    assert size > 1 and error < allowed * max(1, size / 4)


@pytest.mark.parametrize("headed", [True, False])
def test_the_network_of_improved_meanflow_is_that_of_the_file(headed, normal):
    tensors = imf_files.tensors(headed)
    net = imf.options_of(tensors, side=SIDE).network(tensors)
    assert net.has_head == headed
    x, s, t = normal(2, SIDE, SIDE, C), np.float32([0.31, 0.97]), np.float32([0.3, 0.1])
    guidance = np.float32([[2.5, 0.2, 0.8], [1.0, 0.0, 1.0]])

    def run(x, s, t, label, guidance):
        cond = Condition(label, guidance)
        return net.with_head(x, s, t, cond) if headed else (net(x, s, t, cond),)

    found = once(jax.vmap(run))(x, s, t, LABELS, guidance)
    cases = zip(x.transpose(0, 3, 1, 2), s, t, LABELS, guidance)
    wanted = zip(*(imf_files.reference(tensors, *at) for at in cases))
    for ours, theirs in zip(found, wanted):
        theirs = np.stack(theirs).transpose(0, 2, 3, 1)
        size, error = np.abs(theirs).max(), np.abs(ours - theirs).max()
        assert size > 1 and error < 8e-7 * max(1, size / 4)


def test_no_guidance_and_no_label_are_the_plain_ones(normal):
    tensors = imf_files.tensors(True)
    net, x = imf.options_of(tensors, side=SIDE).network(tensors), normal(SIDE, SIDE, C)

    @once
    def run(x, s, t, guidance, null):
        return net(x, s, t), net(x, s, t, Condition(null, guidance))

    plain, said = run(x, *np.float32([0.9, 0.2]), np.float32([1, 0, 1]), LABELS[1])
    np.testing.assert_allclose(plain, said, atol=2e-6)


EVERY = {name: (case[0], case[1]) for name, case in CASES.items()} | {
    "sit": (CASES["sit"][0], files.torch_dit(C)),
    "diffusers": (CASES["diffusers"][0], files.diffusers_dit(C)),
    "imf": (lambda w: imf.options_of(w, side=SIDE), imf_files.tensors(True)),
}
"""Layouts and tensors; without a learned variance, which is left out."""


@pytest.mark.parametrize("name", EVERY)
def test_there_and_back_is_the_same(name):
    options_of, tensors = EVERY[name]
    layout = options_of(tensors)
    back = unfilled(layout.network(tensors), layout.table)
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value)


@pytest.mark.parametrize("name", EVERY)
def test_what_does_not_fit_is_named(name):
    options_of, tensors = EVERY[name]
    key = next(key for key in tensors if re.search(r"_?0\..*(qkv|to_q|q_proj)", key))
    wide = (*tensors[key].shape, 1)
    changes = {
        f"missing: {key};": {k: v for k, v in tensors.items() if k != key},
        "not used: other;": tensors | {"other": np.ones(3)},
        f"{key} is {wide}, the network has {wide[:-1]};": tensors | {key: tensors[key][..., None]},
    }
    for message, changed in changes.items():
        with pytest.raises(UserError) as error:
            options_of(changed).network(changed)
        assert message in str(error.value)


@pytest.mark.parametrize("name", EVERY)
def test_a_file_of_another_kind_is_refused(name):
    with pytest.raises(UserError, match="the weights have no .*; they have conv_in.weight: choose"):
        EVERY[name][0]({"conv_in.weight": np.ones((3, 3, 3, 3))})


def test_options_are_those_of_the_file():
    layout = sit.options_of(files.torch_dit(C), heads=3)
    config = layout.config
    assert (config.width, config.depth, config.patch, config.frequencies) == (24, 2, 2, 6)
    assert layout.shape == (6, 6, 3) and layout.num_classes == 5
    assert layout.prediction is None and config.clock == "reversed"
    assert layout.assumed == (
        "not in the file, assumed: 6 rows of labels, the last of them for none (--null-class), "
        "the clock 'reversed' (--clock)"
    )


def test_what_the_file_does_not_tell_is_asked_for():
    tensors = files.torch_dit(C)
    with pytest.raises(UserError, match="no published network has width 24: give the number"):
        sit.options_of(tensors)
    tensors["final_layer.linear.weight"] = np.ones((12 * 3, 24))
    with pytest.raises(UserError, match="readout has 9 channels a pixel, images 3"):
        dit.options_of(tensors, heads=3)


def test_a_label_table_without_a_row_for_none(normal):
    tensors = files.torch_dit(C)
    layout = sit.options_of(tensors, heads=3, null_class=False)
    assert layout.num_classes == files.CLASSES + 1 and not layout.config.null_class
    net, x = layout.network(tensors), normal(SIDE, SIDE, C)

    @once
    def run(x, s, beyond):
        return net(x, s, s), net(x, s, s, Condition(beyond)), net(x, s, s, Condition(beyond - 1))

    none, beyond, last = run(x, np.float32(0.4), np.int32(6))
    np.testing.assert_array_equal(none, beyond)
    assert np.abs(none - last).max() > 1e-3


def test_time_runs_the_other_way_in_sit(normal):
    """Its velocity, from noise to data at time 1 - u, has the other sign."""
    tensors = files.torch_dit(C)
    net, x = sit.options_of(tensors, heads=3).network(tensors), normal(SIDE, SIDE, C)
    ours, theirs = once(lambda x, u, tau: (net(x, u, u), net.native(x, tau, tau)))(
        x, *np.float32([0.25, 0.75])
    )
    np.testing.assert_array_equal(ours, -theirs)


@pytest.mark.slow
def test_sixteen_bits_are_close(normal):
    tensors = files.diffusers_dit(C)
    layout = diffusers_dit.options_of(tensors, heads=HEADS, side=SIDE)
    half = dataclasses.replace(layout, config=dataclasses.replace(layout.config, dtype="bfloat16"))
    nets = layout.network(tensors), half.network(tensors)
    x = normal(SIDE, SIDE, C)
    exact, rounded = once(lambda x, k: tuple(n.native(x, k, k) for n in nets))(x, np.float32(500))
    assert rounded.dtype == jnp.float32
    assert 0 < np.linalg.norm(exact - rounded) < 0.03 * np.linalg.norm(exact)
