"""The state of a run: everything a checkpoint holds, as arrays."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from core.flow.teacher import frozen
from core.objectives.objective import Objective, Players

if TYPE_CHECKING:
    import optax


class TrainState(eqx.Module):
    """Arrays only, so that it can be scanned, donated and saved.

    **Fields:** `players` the trained parameters by player; `opt` their optimiser states; `ema` the
    averaged parameters that are sampled from; `target` the parameters that targets use, or None
    for the current ones; `carry` of the objective; `step` the number of finished steps; `key` of
    the run, never drawn from, only folded; `rollbacks` how often the run went back.
    """

    players: Players
    opt: dict[str, Any]
    ema: Players
    target: Players | None
    carry: Any
    step: Int[Array, ""]
    key: Key[Array, ""]
    rollbacks: Int[Array, ""]


@dataclass(frozen=True)
class TargetParameters:
    """Which parameters targets use: the current ones, an EMA of decay `decay`, or a copy that is
    renewed every `every` steps."""

    decay: float | None = None
    every: int | None = None

    @property
    def kept(self) -> bool:
        """Whether the state holds parameters for targets."""
        return self.decay is not None or self.every is not None


def init_state(
    players: Players,
    objective: Objective,
    optimizer: "optax.GradientTransformation",
    key: Key[Array, ""],
    target: TargetParameters = TargetParameters(),
    trained: Any = eqx.is_inexact_array,
) -> tuple[TrainState, Players]:
    """The state before the first step, and the rest of the players: what is no number, and numbers
    that are not `trained` (a filter of Equinox).

    The EMA starts at the weights.
    """
    arrays, static = eqx.partition(players, trained)
    state = TrainState(
        players=arrays,
        opt={name: optimizer.init(part) for name, part in arrays.items()},
        ema=jax.tree.map(jnp.copy, arrays),
        target=jax.tree.map(jnp.copy, arrays) if target.kept else None,
        carry=objective.init(players),
        step=jnp.zeros((), jnp.int32),
        key=key,
        rollbacks=jnp.zeros((), jnp.int32),
    )
    return state, static


def target_players(state: TrainState, static: Players) -> Players:
    """The players with the parameters that targets use; no gradient reaches them."""
    arrays = state.players if state.target is None else state.target
    return frozen(eqx.combine(arrays, static))
