"""Costs in forward-pass equivalents, on a tiny transformer."""

import importlib

import jax.random as jr
import pytest

from core.cost import Bench
from core.nets.dit import DiTConfig
from core.objective import Batch
from core.plugin import find_plugin

importlib.import_module("plugins")


@pytest.fixture(scope="module")
def bench():
    flags = DiTConfig(width=32, depth=2, heads=2, unroll=2, remat="none")
    nets = [flags.build((8, 8, 1), 0, key=jr.key(seed)) for seed in (0, 1)]
    return Bench(*nets, Batch(jr.normal(jr.key(2), (8, 8, 8, 1))), repeats=1)


@pytest.mark.parametrize("name", ["ayf-lmd"])
def test_operations_are_those_that_were_counted(name, bench):
    """Within 12 %: in so small a network what is not a matrix product weighs more."""
    plugin = find_plugin(name)
    whole, split = bench.whole(plugin), bench.split(plugin)
    assert whole.flops == pytest.approx(plugin.whole_cost, rel=0.12)
    assert split.flops == pytest.approx(plugin.cost, rel=0.12)
    assert (split.flops < whole.flops) == (plugin.cost < plugin.whole_cost)
    assert split.temporary_bytes > 0 and split.time > 0
