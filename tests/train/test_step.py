"""The training step: players, averages, targets, randomness, and what it reports."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from core.objectives.objective import Batch, Objective
from core.train.state import TargetParameters, init_state, target_players
from core.train.step import make_step, many_steps

RATE, DECAY = 0.1, 0.9
KEY = jr.key(5)


class Weight(eqx.Module):
    """A player of one number (and a name, which is not trained)."""

    w: jax.Array
    name: str = "weight"


class Stub(Objective):
    """`rule(players, target, carry, batch, key) -> losses`; the carry counts its calls."""

    rule: Any

    def init(self, players):
        del players
        return jnp.zeros((), jnp.int32)

    def __call__(self, players, target, carry, batch, key, step):
        losses = self.rule(players, target, batch, key)
        return losses, carry + 1, {"loss": sum(losses.values())}


def trained(
    rule,
    steps,
    target=TargetParameters(),
    optimizer=optax.sgd(RATE),
    rollbacks=0,
    rates={},
    **start,
):
    """State before and after some steps, and the metrics of each."""
    players = {name: Weight(jnp.asarray(value, jnp.float32)) for name, value in start.items()}
    objective = Stub(rule)
    first, static = init_state(players, objective, optimizer, KEY, target)
    state = eqx.tree_at(lambda s: s.rollbacks, first, jnp.asarray(rollbacks, jnp.int32))
    step = eqx.filter_jit(make_step(static, optimizer, DECAY, target, rates))
    history = []
    for _ in range(steps):
        state, metrics = step(state, Batch(jnp.zeros((1, 1))), objective)
        history.append({name: float(value) for name, value in metrics.items()})
    return first, state, history


def number(players, name="model"):
    return float(players[name].w)


# --- Players ---


def test_a_player_may_learn_at_a_rate_of_its_own():
    """Behind Adam too, where a factor of the loss changes nothing."""

    def rule(players, target, batch, key):
        return {name: 7.0 * players[name].w for name in players}

    for optimizer in (optax.sgd(RATE), optax.adam(RATE)):
        first, state, _ = trained(rule, 2, optimizer=optimizer, rates={"b": 5.0}, a=1.0, b=1.0)
        moved = {name: number(state.players, name) - 1.0 for name in ("a", "b")}
        assert moved["b"] == pytest.approx(5 * moved["a"], rel=1e-4) and moved["a"] < 0


def test_each_loss_moves_its_own_player_only():
    """A game `min_a max_b a b`: each sees the other frozen, and steps on its own loss."""

    def rule(players, target, batch, key):
        a, b = players["a"].w, players["b"].w
        return {"a": a * jax.lax.stop_gradient(b), "b": -jax.lax.stop_gradient(a) * b}

    _, state, history = trained(rule, 3, a=1.0, b=2.0)
    a, b = 1.0, 2.0
    for metrics in history:
        assert metrics["grad_norm"] == pytest.approx(np.hypot(a, b), rel=1e-6)
        a, b = a - RATE * b, b + RATE * a
    assert number(state.players, "a") == pytest.approx(a, rel=1e-6)
    assert number(state.players, "b") == pytest.approx(b, rel=1e-6)


def test_a_player_without_a_loss_stays_as_it_is():
    def rule(players, target, batch, key):
        return {"a": players["a"].w * players["b"].w}

    first, state, _ = trained(rule, 3, a=1.0, b=2.0)
    assert number(state.players, "b") == number(state.ema, "b") == 2.0
    assert number(state.players, "a") == pytest.approx(1.0 - 3 * RATE * 2.0)


def test_every_player_has_an_optimiser_of_its_own():
    def rule(players, target, batch, key):
        return {"a": 1e-3 * players["a"].w, "b": 1e3 * players["b"].w}

    _, state, _ = trained(rule, 4, optimizer=optax.adam(RATE), a=1.0, b=1.0)
    moved = [1.0 - number(state.players, name) for name in ("a", "b")]
    assert moved == pytest.approx([4 * RATE] * 2, rel=1e-3)


# --- Averages ---


def constant(players, target, batch, key):
    return {"model": 0.0 * players["model"].w}


def falling(players, target, batch, key):
    return {name: player.w for name, player in players.items()}


def test_the_average_of_constant_parameters_is_constant():
    """It starts at the weights, so nothing is missing from it at the beginning."""
    _, state, _ = trained(constant, 20, model=3.0)
    assert number(state.players) == 3.0
    assert number(state.ema) == pytest.approx(3.0, rel=1e-6)


def test_the_average_is_the_exponential_one_of_every_player():
    _, state, _ = trained(falling, 7, a=3.0, b=-1.0)
    for name, start in (("a", 3.0), ("b", -1.0)):
        w = ema = start
        for _ in range(7):
            w -= RATE
            ema = DECAY * ema + (1 - DECAY) * w
        assert number(state.ema, name) == pytest.approx(ema, rel=1e-6)
        assert number(state.players, name) == pytest.approx(w, rel=1e-5)


def test_targets_use_the_current_parameters_or_their_average():
    """Steps on `target` (its value times `w`): the parameter falls by what the target says."""

    def rule(players, target, batch, key):
        return {"model": players["model"].w * target["model"].w}

    _, state, _ = trained(rule, 4, model=1.0)
    assert state.target is None
    assert number(state.players) == pytest.approx((1 - RATE) ** 4, rel=1e-6)
    _, state, _ = trained(rule, 4, target=TargetParameters(decay=0.5), model=1.0)
    w = average = 1.0
    for _ in range(4):
        w -= RATE * average
        average = 0.5 * average + 0.5 * w
    assert number(state.players) == pytest.approx(w, rel=1e-6)
    assert number(state.target) == pytest.approx(average, rel=1e-6)


def test_targets_use_a_copy_that_is_renewed_every_few_steps():
    def rule(players, target, batch, key):
        return {"model": players["model"].w * target["model"].w}

    _, state, history = trained(rule, 4, target=TargetParameters(every=2), model=1.0)
    renewed = 1 - 2 * RATE
    assert [metrics["grad_norm"] for metrics in history] == pytest.approx([1, 1, renewed, renewed])
    assert number(state.target) == number(state.players)


@pytest.mark.parametrize(
    "target", [TargetParameters(), TargetParameters(decay=0.5), TargetParameters(every=2)]
)
def test_no_gradient_reaches_the_target(target):
    def rule(players, target, batch, key):
        return {"model": players["model"].w + target["model"].w ** 2}

    _, state, history = trained(rule, 2, target, model=1.0)
    assert [metrics["grad_norm"] for metrics in history] == pytest.approx([1.0, 1.0])


def test_target_players_are_whole_and_stopped():
    players = {"model": Weight(jnp.ones(()), "kept")}
    state, static = init_state(players, Stub(constant), optax.sgd(1.0), KEY)
    assert target_players(state, static)["model"].name == "kept"

    def value(w):
        moved = eqx.tree_at(lambda s: s.players["model"].w, state, w)
        return target_players(moved, static)["model"].w ** 2

    assert value(jnp.float32(3.0)) == 9 and jax.grad(value)(jnp.float32(3.0)) == 0


# --- Randomness, carry, report ---


def noisy(players, target, batch, key):
    return {"model": 0.0 * players["model"].w + jr.normal(key)}


def test_each_step_has_noise_of_its_own_that_repeats_and_is_fresh_after_a_rollback():
    losses = [
        [metrics["loss"] for metrics in trained(noisy, 5, rollbacks=n, model=1.0)[2]]
        for n in (0, 0, 1)
    ]
    assert losses[0] == losses[1]
    assert len(set(losses[0] + losses[2])) == 10


def test_the_state_counts_steps_and_carries_what_the_objective_gives():
    first, state, _ = trained(falling, 6, model=0.0)
    assert int(first.step) == int(first.carry) == 0
    assert int(state.step) == int(state.carry) == 6
    assert jnp.array_equal(jr.key_data(state.key), jr.key_data(KEY))


def zero_over_zero(w):
    return jnp.sqrt((w - 1.0) ** 2)  # at 1 the value is finite and its gradient is not


@pytest.mark.parametrize(
    "rule, finite",
    [
        (lambda players, *_: {name: p.w for name, p in players.items()}, 1.0),
        (lambda players, *_: {"a": players["a"].w, "b": jnp.nan * players["b"].w}, 0.0),
        (lambda players, *_: {"a": players["a"].w + jnp.inf, "b": players["b"].w}, 0.0),
        (lambda players, *_: {"a": players["a"].w, "b": zero_over_zero(players["b"].w)}, 0.0),
    ],
)
def test_a_loss_or_gradient_of_any_player_that_is_not_finite_is_reported(rule, finite):
    _, _, history = trained(rule, 1, a=1.0, b=1.0)
    assert history[0]["finite"] == finite


# --- Several steps in one call ---


@pytest.mark.parametrize("size", [3, pytest.param(6, marks=pytest.mark.slow)])
def test_many_steps_are_the_steps_one_by_one(size, normal):
    traced = []

    def rule(players, target, batch, key):
        traced.append(1)
        noise = jr.normal(key, batch.x_0.shape)
        return {"model": jnp.mean((players["model"].w * batch.x_0 - noise) ** 2)}

    objective, optimizer = Stub(rule), optax.adam(RATE)
    data, store = normal(6, 4, 2), np.ones((4, 2), np.float32)

    def gather(store, one, key):
        del key
        return Batch(store + one["x"])

    results = []
    for count in (1, size):
        players = {"model": Weight(jnp.float32(0.3))}
        state, static = init_state(players, objective, optimizer, jr.key(1))
        arrays, fixed = eqx.partition(objective, eqx.is_array)
        step = make_step(static, optimizer, DECAY)
        program, losses = many_steps(step, gather, fixed), []
        traced.clear()
        for start in range(0, 6, count):
            raw = {"x": data[start : start + count]}
            state, metrics = program(state, (arrays, store, None), raw)
            assert metrics["loss"].shape == (count,)
            losses += metrics["loss"].tolist()
        assert len(traced) == 1
        results.append([*losses, state.players["model"].w.item(), state.ema["model"].w.item()])
    np.testing.assert_allclose(*results, rtol=1e-6)  # two programs, which may round differently
