"""What samplers need and what they cost."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap, ConsistencyMap
from core.flow.path import EDMPath, LinearPath
from core.sampling import SAMPLERS, check_sampler, uniform_grid, usable
from core.sampling.jumps import Gamma
from core.sampling.ode import AdaptiveOde, Ddim
from core.sampling.sde import EulerMaruyama, HeunChurn
from tests.compiling import once
from tests.sampling.distributions import gaussian

BY_DIFFRAX = ("euler", "heun", "adaptive")


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "euler"])
def test_evaluations_are_those_of_the_network(name):
    """As it counts them itself."""
    calls, asked = [], 7 if name == "churn" else 6
    sampler = SAMPLERS[name]

    def net(x, s, t, cond):
        jax.debug.callback(lambda: calls.append(1))
        return jnp.sin(3 * x)

    flow_map = AverageVelocityMap(net, LinearPath())
    times = np.float32(uniform_grid(LinearPath(), sampler.steps(asked)))
    run = once(lambda x, times: sampler(flow_map, x, times, key=jr.key(0)))
    solution = run(np.ones(1, np.float32), times)
    jax.effects_barrier()
    assert solution.nfe == len(calls)
    assert name == "adaptive" or len(calls) == asked


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in BY_DIFFRAX])
def test_who_draws_noise_says_so(name):
    """The result of the others does not change with the key; nor for one step of a jump."""
    flow_map, start = gaussian(), np.ones(2, np.float32)

    def end(x, times, seed):
        return SAMPLERS[name](flow_map, x, times, key=jr.key(seed)).x

    ends = once(jax.vmap(end, (None, None, 0)))

    def differs(steps):
        times = np.float32(uniform_grid(flow_map.path, steps))
        one, other = ends(start, times, np.arange(2))
        return np.abs(one - other).min() > 1e-3

    assert differs(3) == SAMPLERS[name].draws_noise(3)
    if name in ("restart", "gamma"):
        assert not differs(1) and not SAMPLERS[name].draws_noise(1)


def test_a_number_of_evaluations_that_no_steps_have():
    with pytest.raises(UserError, match="heun takes 2 evaluations a step, so 3 is not possible"):
        SAMPLERS["heun"].steps(3)
    with pytest.raises(UserError, match="churn takes 2 .* so 4 is not possible; use an odd number"):
        SAMPLERS["churn"].steps(4)


def test_usable_leaves_out_what_cannot_be_and_asks_adaptive_once():
    asked = [1, 2, 4, 5, 8]
    assert usable("euler", SAMPLERS["euler"], asked) == asked
    assert usable("heun", SAMPLERS["heun"], asked) == [2, 4, 8]
    assert usable("churn", SAMPLERS["churn"], asked) == [1, 5]
    assert usable("adaptive", SAMPLERS["adaptive"], asked) == [1]
    assert usable("pushforward", SAMPLERS["pushforward"], asked, most=2) == [1, 2]
    with pytest.raises(UserError, match="heun takes 2"):
        usable("heun", SAMPLERS["heun"], [1, 3])
    with pytest.raises(UserError, match=r"'heun' can use none of --nfe \[2, 4\], 1 at most"):
        usable("heun", SAMPLERS["heun"], [2, 4], most=1)


def test_a_model_gives_only_what_it_has_learned():
    edge = ConsistencyMap(lambda x, s, t, cond: x, EDMPath())
    for name, sampler in SAMPLERS.items():
        check_sampler(name, sampler, gaussian())
        check_sampler(name, sampler, gaussian(), SAMPLERS["pushforward"])
        if name == "restart":
            check_sampler(name, sampler, edge)
            check_sampler(name, sampler, gaussian(), SAMPLERS["restart"])
            continue
        for own in (None, SAMPLERS["pushforward"], SAMPLERS["euler"]):
            with pytest.raises(UserError, match=f"'{name}' needs .* use --sampler restart"):
                check_sampler(name, sampler, edge, own)
        with pytest.raises(UserError, match="has learned only jumps to the data"):
            check_sampler(name, sampler, gaussian(), SAMPLERS["restart"])
    check_sampler("dpmpp-2m", SAMPLERS["dpmpp-2m"], gaussian(), SAMPLERS["euler"])
    for name in ("pushforward", "restart", "gamma"):
        with pytest.raises(UserError, match="only the velocity at every time; use --sampler euler"):
            check_sampler(name, SAMPLERS[name], gaussian(), SAMPLERS["euler"])


@pytest.mark.parametrize(
    "kind, settings",
    [
        (Gamma, {"gamma": 1.5}),
        (Ddim, {"randomness": -0.1}),
        (AdaptiveOde, {"tolerance": 0.0}),
        (HeunChurn, {"churn": -1.0}),
        (HeunChurn, {"churn_min": 2.0, "churn_max": 1.0}),
        (HeunChurn, {"churn_noise": float("nan")}),
        (EulerMaruyama, {"strength": float("inf")}),
    ],
)
def test_settings_out_of_range_are_refused(kind, settings):
    with pytest.raises(UserError, match="--" + next(iter(settings)).replace("_", "-")):
        kind(**settings)
