"""A Markov chain whose proposals keep the prior, so that the reward alone is in the ratio."""

from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
from jaxtyping import Array, Float, Key

State = Float[Array, "*shape"]


def last_of_chain(
    log_tilt: Callable[[State], Float[Array, ""]],
    propose: Callable[[Key[Array, ""], State], State],
    start: State,
    key: Key[Array, ""],
    moves: int,
) -> State:
    """The last state of a chain from `start`, shape (*shape), after `moves` moves.

        x' ~ q(x' | x),     accepted with probability min(1, exp(log_tilt(x') - log_tilt(x)))

    Where `propose(key, x)` is reversible for a distribution `p`, the chain tends to
    `p exp(log_tilt) / Z`. A move costs one call of each. BlackJAX's Metropolis-Hastings step.
    """
    with jax.ensure_compile_time_eval():  # BlackJAX makes an array while it is imported
        import blackjax

    kernel = blackjax.rmh(log_tilt, propose)

    def move(state: Any, key: Key[Array, ""]) -> tuple[Any, None]:
        return kernel.step(key, state)[0], None

    state: Any = kernel.init(start, None)
    return jax.lax.scan(move, state, jr.split(key, moves))[0].position
