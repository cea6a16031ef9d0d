"""Adapters in a map: nothing at the start, merged, taken out again, summed."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from core.adapters import (
    adapted,
    adapter_of,
    base_print,
    merged,
    parts,
    read_adapter,
    unmerged,
    with_adapters,
    write_adapter,
)  # fmt: skip
from core.adapters.adapted import count, trained
from core.adapters.places import layers
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.methods.warm_start import warm_started
from core.train.checkpoint import by_name
from tests.adapters.nets import CLASSES, CONFIGS, SHAPE, base_of, changed, shape_of
from tests.compiling import once
from tests.nets.randomised import given, noise, skeleton
from tests.sets import some

S, T = np.float32(0.7), np.float32(0.2)


def outputs(x, *maps):
    """Value, and derivative along a direction, of each map."""

    @once
    def run(x, maps):
        def one(flow_map):
            call = lambda x, s, t: flow_map.average_velocity(x, s, t, given(1))  # noqa: E731
            return jax.jvp(call, (x, S, T), (x + 1, np.float32(1.0), np.float32(0.5)))

        return [one(flow_map) for flow_map in maps]

    return run(x, maps)


@pytest.mark.parametrize("name", some(CONFIGS, "sit"))
def test_a_fresh_adapter_changes_no_bit(name, getkey, normal):
    base = base_of(name, getkey())
    fresh = adapted(base, rank=2, key=getkey())
    assert count(fresh) > 0
    before, after = outputs(normal(*shape_of(name)), base, fresh)
    assert np.abs(before[0]).max() > 1e-2
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", some(CONFIGS, "sit"))
def test_merged_weights_do_what_the_adapter_does_and_can_be_taken_back(name, getkey, normal):
    base = base_of(name, getkey())
    moved = changed(base, getkey())
    whole = merged(moved)
    back = unmerged(whole, adapter_of(moved))
    x = normal(*shape_of(name))
    (start, _), (V, dV), (other, d_other), (again, _) = outputs(x, base, moved, whole, back)
    size, slope = np.abs(V).max(), np.abs(dV).max()
    assert np.abs(V - start).max() > 1e-3 * size
    np.testing.assert_allclose(other, V, atol=2e-6 * max(size, 1))
    np.testing.assert_allclose(d_other, dV, atol=1e-5 * max(slope, 1))
    np.testing.assert_allclose(again, start, atol=2e-6 * max(size, 1))


def test_several_adapters_sum_with_their_weights(getkey):
    """By the weights themselves: `W + 0.5 s B A + 2 s' B' A'`, layer by layer, in NumPy."""
    base = base_of("sit", getkey())
    one, other = changed(base, getkey()), changed(base, getkey(), rank=3, alpha=1.0)
    found = layers(with_adapters(base, [(adapter_of(one), 0.5), (adapter_of(other), 2.0)]))
    for name, layer in layers(base).items():
        expected = np.asarray(layer.weight, np.float64)
        for tree, weight, scale in ((one, 0.5, 3.0 / 2), (other, 2.0, 1.0 / 3)):
            of = layers(tree)[name]
            if hasattr(of, "A"):
                A, B = np.asarray(of.A, np.float64), np.asarray(of.B, np.float64)
                expected = expected + weight * scale * np.einsum("lor,lri->loi", B, A)
        np.testing.assert_allclose(found[name].weight, expected, atol=1e-6)


def test_the_scale_is_alpha_over_the_rank_or_over_its_root(getkey):
    base = base_of("mlp", getkey())
    scales = [
        next(iter(adapter_of(adapted(base, rank=4, key=getkey(), **how)).layers.values())).scale
        for how in ({}, {"alpha": 2.0}, {"alpha": 2.0, "rs": True})
    ]
    assert scales == [1.0, 0.5, 1.0]


def test_only_the_adapters_are_trained(getkey):
    base = base_of("dit", getkey())
    fresh = adapted(base, ["*.qkv", "*.embedding.output"], rank=2, key=getkey())
    names = [jax.tree_util.keystr(path, simple=True, separator=".")
             for path, _ in jax.tree_util.tree_leaves_with_path(parts(fresh))]  # fmt: skip
    layer = ("net.embedding.output", "net.blocks.qkv")
    assert sorted(names) == sorted(f"{name}.{part}" for name in layer for part in "AB")
    sizes = {jax.tree_util.keystr(p, simple=True, separator="."): leaf.shape
             for p, leaf in jax.tree_util.tree_leaves_with_path(parts(fresh))}  # fmt: skip
    assert sizes["net.blocks.qkv.A"] == (2, 2, 16) and sizes["net.blocks.qkv.B"] == (2, 48, 2)
    assert sizes["net.embedding.output.A"] == (2, 16)
    assert all(jax.tree.leaves(trained(base)))


@pytest.mark.parametrize(
    "patterns, rank, message",
    [
        (["*.nothing"], 2, r"--adapter.layers \*.nothing names no layer.*net.embedding.inputs.0"),
        (["*.qkv"], 0, "--adapter.rank must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_adapted_is_one_line(patterns, rank, message, getkey):
    with pytest.raises(UserError, match=message):
        adapted(base_of("dit", getkey()), patterns, rank=rank, key=getkey())


def test_an_adapter_of_another_network_is_refused(getkey):
    adapter = adapter_of(changed(base_of("dit", getkey()), getkey()), "style")
    with pytest.raises(UserError, match="style changes blocks.qkv.*which this network has not"):
        with_adapters(base_of("mlp", getkey()), [(adapter, 1.0)])
    with pytest.raises(UserError, match=r"style: its change of blocks.qkv is of shape \(2, 48, 16"):
        with_adapters(base_of("imf", getkey()), [(adapter, 1.0)])


def student(getkey):
    """A network of one time, and the student that begins as it, with a second time and guidance."""
    one = dataclasses.replace(CONFIGS["sit"], times="s", clock="reversed")
    two = dataclasses.replace(one, second_time=True, guidance=True)
    base = AverageVelocityMap(noise(skeleton(one, SHAPE, CLASSES), getkey(), 0.2), LinearPath())
    fresh = AverageVelocityMap(two.build(SHAPE, CLASSES, key=getkey()), LinearPath())
    found = warm_started(base, fresh)
    assert found is not None
    return base, found


@pytest.mark.programs(60)
def test_inputs_that_begin_at_zero_are_trained_in_full(getkey, tmp_path):
    base, begun = student(getkey)
    moved = adapted(begun, ["*.qkv"], rank=2, key=getkey())
    names = {name for name, leaf in by_name(parts(moved)).items()}
    later = {name for name in by_name(eqx.filter(begun, eqx.is_array)) if ".later." in name}
    assert later and names == later | {"net.blocks.qkv.A", "net.blocks.qkv.B"}
    assert base_print(moved) == base_print(adapted(base, rank=3, key=getkey()))
    adapter = adapter_of(moved)
    assert set(adapter.whole) == {name.removeprefix("net.") for name in later}
    write_adapter(adapter, tmp_path, "own", begun, SHAPE)
    again = with_adapters(begun, [(read_adapter(tmp_path, begun, SHAPE), 1.0)])
    for name, leaf in by_name(eqx.filter(merged(moved), eqx.is_array)).items():
        np.testing.assert_array_equal(by_name(again)[name], leaf)
    with pytest.raises(UserError, match="trained in full, so no adapter.*--keys own"):
        write_adapter(adapter, tmp_path, "peft", begun, SHAPE)
    with pytest.raises(UserError, match="later.*which this network has not"):
        with_adapters(base, [(adapter, 1.0)])
