"""The oracle checks of objectives that have no rows: their update on many small batches."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from core.conformance.checks import E0_BOUND, Check, largest_score
from core.conformance.probes import NUM_BUMPS, Probe
from core.flow.flow_map import FlowMap
from core.flow.teacher import frozen
from core.methods.plugin import Method
from core.nets.discriminator import Discriminator
from core.objectives.objective import Batch, Objective, Players


def batch_checks(name: str, method: Method, scores: list[dict[str, float]]) -> list[Check]:
    """A check for each player from its scores with the exact map and with the wrong ones.

    Beside a discriminator a player that never moves is left out: the map under a constant one, or
    the discriminator itself where the game has not begun.
    """
    game = any(isinstance(player, Discriminator) for player in method.players.values())
    checks = []
    for player in scores[0]:
        true, *wrong = (score[player] for score in scores)
        if not (game and true == max(wrong) == 0):
            whose = "" if player == "model" else f" of {player}"
            label = f"{name}: expected update{whose}"
            checks.append(Check(label, "E0", true, E0_BOUND, max(wrong)))
    return checks


def batch_scores(
    objective: Objective, method: Method, model: FlowMap, batch: Batch, key: Key[Array, ""]
) -> dict[str, float]:
    """The scores of the players of an objective that is no `RowObjective`, on many small batches.

    Its weights stay on: one that depends on the residual would fail by its own bias. An objective
    that carries something between steps, such as a population, fills it with one half of a batch.
    """
    parts = 64
    whole = len(batch.x_0) // parts * parts
    small = jax.tree.map(lambda a: a[:whole].reshape(parts, -1, *a.shape[1:]), batch)
    known = {"model": model, **method.players}
    keys = jr.split(jr.fold_in(key, 99), parts)
    pieces = [jax.tree.map(lambda a: a[i], small) for i in range(parts)]
    found = [_gradient(objective, known, p, k) for p, k in zip(pieces, keys)]
    return {
        name: largest_score(np.stack([np.asarray(one[name]) for one in found]))
        for name, player in known.items()
        if isinstance(player, FlowMap | Discriminator)
    }


@eqx.filter_jit
def _gradient(
    objective: Objective, known: Players, piece: Batch, key: Key[Array, ""]
) -> dict[str, Float[Array, " count"]]:
    """The gradient of all losses with respect to the perturbations of their players, at zero."""
    start = {name: jnp.zeros(NUM_BUMPS) for name in known}

    def at(psi: dict[str, Array]) -> Players:
        return {name: _settled(known[name], known["model"], psi[name]) for name in known}

    key_first, key_then = jr.split(key)
    step, players = jnp.zeros((), jnp.int32), at(start)
    carry = objective.init(players)
    if jax.tree.leaves(carry):
        first, piece = (jax.tree.map(lambda a: a[half::2], piece) for half in (0, 1))
        carry = objective(players, frozen(players), carry, first, key_first, step)[1]

    def loss(psi: dict[str, Array]) -> Array:
        losses, _, _ = objective(at(psi), frozen(at(psi)), carry, piece, key_then, step)
        return sum(losses.values(), start=jnp.zeros(()))

    return jax.grad(loss)(start)


def _settled(player: Any, model: FlowMap, psi: Float[Array, " count"]) -> Any:
    """A player as it is when `model` is right, perturbed.

    A map or velocity field is the model itself; a discriminator is constant, perturbed by the
    first of its features; any other stays as it is.
    """
    if isinstance(player, FlowMap):
        return Probe(exact=model, psi=psi, path=model.path)
    if isinstance(player, Discriminator):
        rest = player.output.weight.shape[1] - NUM_BUMPS
        weight = jnp.pad(psi, (0, rest))[None].astype(player.output.weight.dtype)
        return eqx.tree_at(lambda net: net.output.weight, player, weight)
    return player
