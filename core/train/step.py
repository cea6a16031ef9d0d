"""The training step: pure, jitted, several steps in one call."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.objectives.objective import Batch, DivisibleObjective, Metrics, Objective, Players
from core.train.accumulate import mean_over
from core.train.gather import Gather
from core.train.state import TargetParameters, TrainState, target_players

if TYPE_CHECKING:
    import optax

TrainStep = Callable[..., tuple[TrainState, Metrics]]
"""`(state, batch, objective, base=None) -> (state, metrics)`."""


def make_step(
    static: Players,
    optimizer: "optax.GradientTransformation",
    ema_decay: float,
    target: TargetParameters = TargetParameters(),
    rates: Mapping[str, float] = MappingProxyType({}),
    pieces: int = 1,
) -> TrainStep:
    """One training step `(state, batch, objective, base) -> (state, metrics)`.

    The gradient of the sum of the players' losses serves all of them, since each loss depends on
    its own player only. The objective is an argument, so that a teacher's weights are no constants
    of the program; so is `base`, the players' numbers that are not trained, where there are some
    beside `static`. The randomness of step `k` is `fold_in(key, k)`, folded once more after a
    rollback, so a resumed run repeats it. `rates` multiply the updates of the players that they
    name. The batch is taken in `pieces`, for which `accumulate.check` has to pass. Metrics gain
    `grad_norm` and `finite`.
    """
    import optax

    def step(
        state: TrainState, batch: Batch, objective: Objective, base: Players | None = None
    ) -> tuple[TrainState, Metrics]:
        key, rest = step_key(state), static if base is None else eqx.combine(base, static)
        stopped = target_players(state, rest)

        def gradient(losses_of: Callable[[Players], Any]) -> tuple[Players, Any]:
            def total(arrays: Players):
                # One backward pass for all players: each loss depends on the parameters of its own
                # player only.
                losses, *others = losses_of(eqx.combine(arrays, rest))
                return sum(losses.values(), start=jnp.zeros(())), (losses, *others)

            return jax.grad(total, has_aux=True)(state.players)

        if pieces == 1:
            grads, (losses, carry, metrics) = gradient(
                lambda players: objective(players, stopped, state.carry, batch, key, state.step)
            )
        else:
            assert isinstance(objective, DivisibleObjective)
            carry, of_piece = state.carry, objective.of_piece
            grads, (losses, metrics) = mean_over(
                objective.divided(batch, key, state.step, pieces),
                lambda piece: gradient(lambda players: of_piece(players, stopped, piece)),
                state.players,
            )
        # An optimiser state for each player: clipping by the norm of one must not depend on
        # another.
        players, opt = dict(state.players), dict(state.opt)
        for name in losses:
            updates, opt[name] = optimizer.update(grads[name], opt[name], players[name])
            if name in rates:
                updates = optax.tree.scale(rates[name], updates)
            players[name] = optax.apply_updates(players[name], updates)
        new = TrainState(
            players=players,
            opt=opt,
            ema=_average(players, state.ema, ema_decay),
            target=_new_target(state, players, target),
            carry=carry,
            step=state.step + 1,
            key=state.key,
            rollbacks=state.rollbacks,
        )
        norm = optax.tree.norm({name: grads[name] for name in losses})
        finite = jnp.isfinite(norm) & jnp.all(jnp.isfinite(jnp.stack(list(losses.values()))))
        return new, {**metrics, "grad_norm": norm, "finite": finite.astype(jnp.float32)}

    return step


def step_key(state: TrainState) -> Key[Array, ""]:
    """The key of the step that is due: all that is random in it comes from this."""
    return jr.fold_in(jr.fold_in(state.key, state.rollbacks), state.step)


def _average(new: Players, old: Players, decay: float) -> Any:
    """`decay old + (1 - decay) new`."""
    import optax

    return optax.incremental_update(new, old, 1 - decay)


def _new_target(state: TrainState, players: Players, target: TargetParameters) -> Players | None:
    if state.target is None:
        return None
    if target.decay is not None:
        return _average(players, state.target, target.decay)
    renew = (state.step + 1) % (target.every or 1) == 0
    return jax.tree.map(lambda new, old: jnp.where(renew, new, old), players, state.target)


def many_steps(
    step: TrainStep,
    gather: Gather,
    static: Objective,
    shardings: tuple[Any, Any] = (None, None),
) -> Any:
    """`(state, frozen, raw) -> (state, metrics)` for a stack of batches: one scan, state donated.

    `frozen` holds the arrays of the objective, whose static half is `static`, the resident data,
    and the numbers of the players that are not trained; `raw` is the item of the data iterator with
    a leading axis of steps; `gather(store, one, key)` turns one of its batches into a `Batch` on
    the device. Metrics come back with a leading axis of steps. `shardings` are those of the
    arguments and of the results, as `jax.jit` has them.
    """

    def run(
        state: TrainState, frozen: tuple[Any, Any, Any], raw: dict[str, Array]
    ) -> tuple[TrainState, dict[str, Float[Array, " steps"]]]:
        arrays, store, base = frozen
        objective = eqx.combine(arrays, static)

        def body(carry: TrainState, one: dict[str, Array]):
            return step(carry, gather(store, one, step_key(carry)), objective, base)

        return jax.lax.scan(body, state, raw)

    inside, outside = shardings
    return jax.jit(run, donate_argnums=0, in_shardings=inside, out_shardings=outside)
