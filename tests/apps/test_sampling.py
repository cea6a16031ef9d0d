"""Which samplers and times a run allows, as the apps see it."""

import jax.numpy as jnp
import pytest

import plugins as plugins  # registers the methods
from apps._sampling import Sampling
from apps.eval import EvalConfig, rows_to_measure
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.methods.registry import find_plugin
from core.sampling import SAMPLERS
from portolan.drawing import check
from portolan.maps import Map


def run_of(name):
    """A map that has learned what the method teaches."""
    plugin = find_plugin(name)
    flow_map = AverageVelocityMap(lambda x, s, t, cond: jnp.zeros_like(x), LinearPath())
    return Map(flow_map, (2,), sampler=plugin.sampler, most_nfe=plugin.most_nfe, name=name)


@pytest.mark.parametrize(
    "method, allowed",
    [
        ("imf", set(SAMPLERS)),
        ("ct", {"restart"}),
        ("fm", set(SAMPLERS) - {"pushforward", "restart", "gamma"}),
        ("boot", {"pushforward", "restart", "gamma"}),
    ],
)
def test_a_method_is_sampled_by_what_it_has_learned(method, allowed):
    found = set()
    for name, sampler in SAMPLERS.items():
        try:
            check(run_of(method), name, sampler)
        except UserError as error:
            assert "use --sampler" in str(error) and "\n" not in str(error)
        else:
            found.add(name)
    assert found == allowed


def test_settings_go_to_the_samplers_that_have_them():
    chosen = Sampling(churn=8.0, churn_noise=1.1).samplers(["churn", "euler"])
    assert (chosen["churn"].churn, chosen["churn"].churn_noise) == (8.0, 1.1)
    assert chosen["churn"].churn_max == SAMPLERS["churn"].churn_max
    assert chosen["euler"] == SAMPLERS["euler"]


def test_rows_that_a_sampler_cannot_have_are_left_out_and_reported(capsys):
    names = ("euler", "heun", "adaptive", "churn")
    plan = rows_to_measure(run_of("imf"), EvalConfig(sampler=names, nfe=(2, 4, 8)))
    rows = {name: nfe for name, (_, nfe) in plan.items()}
    assert rows == {"euler": [2, 4, 8], "heun": [2, 4, 8], "adaptive": [2]}
    assert "churn: no rows for 2 4 8 evaluations, which it cannot use" in capsys.readouterr().err
    plan = rows_to_measure(run_of("boot"), EvalConfig(nfe=(1, 2)))
    assert plan["pushforward"][1] == [1]
    with pytest.raises(UserError, match="2 at most|1 at most"):
        rows_to_measure(run_of("boot"), EvalConfig(nfe=(2, 4)))
