"""Latency and throughput."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from benchmarks import sample
from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.flow.path import LinearPath
from core.sampling import SAMPLERS, uniform_grid


class ToLabel(FlowMap):
    """`F(x, 1, 0) = scale label`, straight."""

    scale: jnp.ndarray
    path: LinearPath = eqx.field(default=LinearPath())

    def average_velocity(self, x, s, t, cond=None):
        return (x - self.scale * cond.label) / s


@pytest.mark.programs(25)  # two samplers, and what is drawn for them
def test_what_is_timed_are_samples_of_the_map_a_class_after_another():
    flow_map = ToLabel(jnp.asarray(2.0))
    for steps in (1, 3):
        draw = sample.drawer(flow_map, (2,), 3, SAMPLERS["pushforward"], 5)
        times = jnp.asarray(uniform_grid(flow_map.path, steps), jnp.float32)
        found = draw(eqx.filter(flow_map, eqx.is_array), times, jr.key(0))
        wanted = np.repeat(2.0 * np.array([0, 1, 2, 0, 1])[:, None], 2, 1)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_run_and_a_fresh_network_are_not_asked_for_together():
    with pytest.raises(UserError, match="leave out --train"):
        sample.main(["--run", "x", "--train=--plugin fm"])


@pytest.mark.slow
def test_a_fresh_network_is_measured():
    train = "--plugin imf --data two-moons --data.n 64 --net.width 8 --net.depth 1"
    flags = "--evaluations 1 2 --batch 4 --calls 3 --rounds 2 --json"
    result = sample.main([*flags.split(), f"--train={train}"])
    assert result is not None
    assert [row["program"] for row in result["latency"]] == ["jit", "compiled ahead"]
    assert all(0 < row["p50_ms"] <= row["p90_ms"] for row in result["latency"])
    assert [row["evaluations"] for row in result["throughput"]] == [1, 2]
    for row in result["throughput"]:
        assert row["samples_per_second"] == pytest.approx(4000 / row["ms"], rel=0.05)
