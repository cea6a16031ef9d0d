"""Costs in forward-pass equivalents, on a tiny transformer."""

import dataclasses
import importlib

import jax.numpy as jnp
import jax.random as jr
import pytest

from core.methods.cost import Bench
from core.methods.registry import find_plugin
from core.nets.dit import DiTConfig
from core.objectives.guidance import GuidanceConfig
from core.objectives.objective import Batch

pytestmark = pytest.mark.slow

importlib.import_module("plugins")


@pytest.fixture(scope="module")
def bench():
    flags = DiTConfig(width=32, depth=2, heads=2, unroll=2, remat="none", guidance=True)
    nets = [flags.build((8, 8, 1), 3, key=jr.key(seed)) for seed in (0, 1)]
    batch = Batch(jr.normal(jr.key(2), (20, 8, 8, 1)), jnp.arange(20) % 3)
    return Bench(*nets, batch, repeats=1, num_classes=3)


@pytest.mark.parametrize("name", ["ayf-lmd"])
def test_operations_are_those_that_were_counted(name, bench):
    """Within 12 %: in so small a network what is not a matrix product weighs more."""
    plugin = find_plugin(name)
    whole, split = bench.whole(plugin), bench.split(plugin)
    assert whole.flops == pytest.approx(plugin.card.whole_cost, rel=0.12)
    assert split.flops == pytest.approx(plugin.card.cost, rel=0.12)
    assert (split.flops < whole.flops) == (plugin.card.cost < plugin.card.whole_cost)
    assert split.temporary_bytes > 0 and split.time > 0


def test_guidance_as_an_input_costs_one_evaluation_of_the_null_class(bench):
    """iMF shares the network's own velocity with its tangent, and rows that lost their label have
    nothing to guide: 0.9 of a forward pass more, where two separate evaluations would be 2 more."""
    plain = find_plugin("imf").preset("image")
    guided = dataclasses.replace(plain, guidance=GuidanceConfig(most=8.0))
    more = bench.flags(guided).flops - bench.flags(plain).flops
    assert more == pytest.approx(0.9, rel=0.12)
