"""The losses of a method as functions of small sets of parameters: what G0 differentiates."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.conformance.probes import NUM_BUMPS, MapNetwork, bumped
from core.flow.divergence import DivergenceHead
from core.flow.flow_map import FlowMap
from core.nets.discriminator import Discriminator
from core.objectives.objective import Batch, GroupTerm, JointTerm, Objective, Players, RowKind
from core.objectives.row import Row
from core.objectives.rows import RowObjective

STEPS = 100
"""Steps of the training that the checks pretend to."""

Psi = dict[str, Float[Array, " count"]]


class Cast(eqx.Module):
    """The players by their parameters: maps with bumps, and other networks moved in directions of
    their own."""

    exact: FlowMap
    others: Players
    key: Key[Array, ""]

    def __call__(self, psi: Psi) -> Players:
        made: Players = {"model": self._map(psi["model"])}
        for i, (name, player) in enumerate(self.others.items()):
            moved = self._moved(player, psi[name], jr.fold_in(self.key, i))
            if isinstance(player, FlowMap):
                moved = self._map(psi[name])
            if isinstance(player, DivergenceHead):
                moved = DivergenceHead(MapNetwork(self._map(psi[name])), player.path)
            made[name] = moved
        return made

    def _map(self, psi: Array) -> FlowMap:
        return bumped(self.exact, psi)

    def _moved(self, player: Any, psi: Array, key: Array) -> Any:
        moving: Any = eqx.is_inexact_array
        if isinstance(player, Discriminator):
            # Its slope in the examples jumps with the weights of the layers below.
            moving = eqx.tree_at(
                lambda net: net.output.weight, jax.tree.map(lambda _: False, player), True
            )
        arrays, static = eqx.partition(player, moving)
        leaves, tree = jax.tree.flatten(arrays)
        keys = jr.split(key, max(len(leaves), 1))
        moved = [
            leaf.astype(float) + jnp.tensordot(psi, jr.normal(k, (NUM_BUMPS, *leaf.shape)), 1) / 40
            for leaf, k in zip(leaves, keys)
        ]
        return eqx.combine(jax.tree.unflatten(tree, moved), static)

    def parameters(self, key: Key[Array, ""]) -> Psi:
        """Random parameters of every player."""
        names = ["model", *self.others]
        return {name: 0.4 * jr.normal(k, (NUM_BUMPS,)) for name, k in zip(names, jr.split(key, 9))}


class RowsCase(eqx.Module):
    """The rows of one kind by themselves, as the objective trains them."""

    objective: RowObjective
    rows: Row

    def losses(self, players: Players, target: Players) -> dict[str, Float[Array, ""]]:
        """Those of the objective."""
        return self.objective.of_rows(players, target, {self.kind.name: self.rows})[0]

    def declared(self, live: Players, fixed: Players, target: Players) -> dict[str, Array]:
        """The same as the method declares them."""
        drawn = {self.kind.name: self.rows}
        return self.objective.declared_rows(live, fixed, target, drawn)

    def numbers(self, players: Players, target: Players, fixed: Players, still: Players) -> Array:
        """What the residuals contain beside their carriers, with guidance by the last two."""
        term = self.kind.term
        if isinstance(term, GroupTerm):
            return jnp.zeros(())
        rows = self.objective.declared_guidance(
            self.kind, fixed["model"], still["model"], self.rows
        )
        return jax.vmap(lambda row: _numbers(term, players, target, row))(rows)

    @property
    def kind(self) -> RowKind:
        """The kind."""
        return self.objective.kinds[0]


class BatchCase(eqx.Module):
    """A whole step of an objective that has no rows."""

    objective: Objective
    carry: Any
    batch: Batch
    key: Key[Array, ""]

    def losses(self, players: Players, target: Players) -> dict[str, Float[Array, ""]]:
        """Those of the objective."""
        return self.objective(players, target, self.carry, self.batch, self.key, self.step)[0]

    def declared(self, live: Players, fixed: Players, target: Players) -> dict[str, Array]:
        """The same as the method declares them."""
        given = self.carry, self.batch, self.key, self.step
        return self.objective.declared(live, fixed, target, *given)

    def numbers(self, players: Players, target: Players, fixed: Players, still: Players) -> Array:
        """Not looked at: a form that is written down says whose parameters it uses."""
        del players, target, fixed, still
        return jnp.zeros(())

    @property
    def step(self) -> Array:
        """The last step, in which curricula are over and all players have begun."""
        return jnp.asarray(STEPS)


Case = RowsCase | BatchCase


def _numbers(term: JointTerm, players: Players, target: Players, row: Row) -> Array:
    residuals = term.residuals(players, target, row)["model"]
    free = [
        R if carrier.read is None else carrier.read(players["model"], row) - R
        for carrier, R in zip(term.declares.carriers, residuals, strict=True)
    ]
    return jnp.concatenate([jnp.ravel(number) for number in free])
