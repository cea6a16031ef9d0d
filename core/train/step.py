"""The training step: pure, jitted, several steps in one call."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax
from jaxtyping import Array, Float

from core.objective import Batch, Objective, Players
from core.train.state import TrainState, target_players

Metrics = dict[str, Float[Array, ""]]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_step(
    objective: Objective,
    static: Players,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
    target_decay: float | None = None,
) -> Step:
    """One training step `(state, batch) -> (state, metrics)`.

    Each player's loss is differentiated by that player's parameters only. The randomness of step
    `k` is `fold_in(key, k)`, folded once more after a rollback, so a resumed run repeats it.
    Metrics gain `grad_norm` and `finite`.
    """

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        key = jr.fold_in(jr.fold_in(state.key, state.rollbacks), state.step)
        target = target_players(state, static)

        def losses_of(arrays: Players):
            players = eqx.combine(arrays, static)
            losses, carry, metrics = objective(players, target, state.carry, batch, key, state.step)
            return losses, (carry, metrics)

        losses, pull_back, (carry, metrics) = jax.vjp(losses_of, state.players, has_aux=True)
        grads = {name: _own_gradient(pull_back, losses, name) for name in losses}
        players, opt = dict(state.players), dict(state.opt)
        for name, grad in grads.items():
            updates, opt[name] = optimizer.update(grad, opt[name], players[name])
            players[name] = optax.apply_updates(players[name], updates)
        new = TrainState(
            players=players,
            opt=opt,
            ema=_average(players, state.ema, ema_decay),
            target=_new_target(state, players, target_decay),
            carry=carry,
            step=state.step + 1,
            key=state.key,
            rollbacks=state.rollbacks,
        )
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(norm) & jnp.all(jnp.isfinite(jnp.stack(list(losses.values()))))
        return new, {**metrics, "grad_norm": norm, "finite": finite.astype(jnp.float32)}

    return step


def _own_gradient(pull_back: Callable, losses: dict[str, Array], name: str):
    cotangent = {other: jnp.asarray(other == name, loss.dtype) for other, loss in losses.items()}
    return pull_back(cotangent)[0][name]


def _average(new: Players, old: Players, decay: float) -> Any:
    """`decay old + (1 - decay) new`."""
    return optax.incremental_update(new, old, 1 - decay)


def _new_target(state: TrainState, players: Players, decay: float | None) -> Players | None:
    if state.target is None or decay is None:
        return None
    return _average(players, state.target, decay)


def many_steps(step: Step, gather: Callable[[Any, dict[str, Array]], Batch]) -> Any:
    """`(state, store, raw) -> (state, metrics)` for a stack of batches: one scan, state donated.

    `store` holds the resident data; `raw` is what the data iterator gives with a leading axis of
    steps; `gather(store, one)` turns one of its batches into a `Batch` on the device. Metrics come
    back with a leading axis of steps.
    """

    def run(
        state: TrainState, store: Any, raw: dict[str, Array]
    ) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
        return jax.lax.scan(lambda carry, one: step(carry, gather(store, one)), state, raw)

    return jax.jit(run, donate_argnums=0)
