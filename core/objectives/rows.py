"""The objective that nearly every method has: a static split of the batch into kinds of rows."""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.posterior import States
from core.nets.dropout import has_dropout, with_masks
from core.objectives.guidance import Guide
from core.objectives.objective import (
    Batch,
    DivisibleObjective,
    GroupTerm,
    JointTerm,
    Metrics,
    Players,
    Residuals,
    RowKind,
)
from core.objectives.pieces import check_kind, split_rows
from core.objectives.row import Row, make_row
from core.objectives.weights import Weight, square
from core.times.distributions import split_counts

stop = jax.lax.stop_gradient


class RowObjective(DivisibleObjective):
    """A static split of the batch into kinds of rows; the loss is the mean over all rows.

    **Fields:** `path` of the training pairs; `kinds` whose shares sum to 1; `num_classes` (0: no
    labels) and `label_drop`, the probability with which a label becomes the null class
    `num_classes`, drawn row by row independently of the kinds; `steps` of the whole training, which
    turn the step into the progress that curricula follow; `guide`, guidance that is learned. With
    one the first rows of each kind are those without a label, a fixed number, so that the others
    alone pay for the velocity of the null class; `weigh`, weights of the clean examples of a batch,
    of mean 1, by which the losses of all their rows are multiplied; `states` draws the extra
    conditioning `(x_t, t)` of posterior maps.

    Every array of the loss is float32 at least. Metrics: the loss, and per kind the unweighted
    mean squared residual, `<kind>/residual`, and what else its term observes.
    """

    path: Interpolant
    kinds: tuple[RowKind, ...]
    num_classes: int = eqx.field(static=True, default=0)
    label_drop: float = eqx.field(static=True, default=0.0)
    steps: int = eqx.field(static=True, default=1)
    guide: Guide | None = None
    weigh: Callable[[Float[Array, " n *shape"]], Float[Array, " n"]] | None = None
    states: States | None = None

    def __check_init__(self):
        split_counts(1000, tuple(kind.share for kind in self.kinds))

    def __call__(
        self,
        players: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[dict[str, Float[Array, ""]], Any, Metrics]:
        batch = self.weighed(batch)
        losses, metrics = self.of_rows(players, target, self.draw(batch, key, step))
        if batch.weight is not None:
            metrics["effective"] = 1 / jnp.mean(batch.weight**2)
        return losses, carry, metrics

    def draw(self, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]) -> dict[str, Row]:
        """The rows of the batch by kind; kinds without a row are left out.

        Examples that have weights come from `weighed`."""
        # Counts are static, so that each kind is compiled for, and pays for, its own rows only.
        counts = split_counts(len(batch.x_0), tuple(kind.share for kind in self.kinds))
        drawn, start = {}, 0
        for kind, n, kind_key in zip(self.kinds, counts, jr.split(key, len(counts))):
            if n == 0:
                continue
            part = jax.tree.map(lambda leaf: _part(leaf, start, n, math.gcd(*counts)), batch)
            drawn[kind.name] = self.rows(kind, part, kind_key, step)
            start += n
        return drawn

    def of_rows(
        self, players: Players, target: Players, drawn: dict[str, Row]
    ) -> tuple[dict[str, Float[Array, ""]], Metrics]:
        """The losses and metrics of the rows of `draw`, or of a piece of them."""
        total = sum(len(rows.s) for rows in drawn.values())
        totals: dict[str, Float[Array, ""]] = {}
        metrics: Metrics = {}
        for kind in self.kinds:
            if kind.name not in drawn:
                continue
            rows = self.guided(kind, target["model"], drawn[kind.name])
            losses, seen = kind_losses(kind, players, target, rows)
            for name, value in losses.items():
                totals[name] = totals.get(name, jnp.zeros(())) + value * (len(rows.s) / total)
            metrics |= {f"{kind.name}/{name}": value for name, value in seen.items()}
        return totals, {"loss": totals["model"], **metrics}

    def declared(
        self,
        live: Players,
        fixed: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> dict[str, Float[Array, ""]]:
        drawn = self.draw(self.weighed(batch), key, step)
        return self.declared_rows(live, fixed, target, drawn)

    def declared_rows(
        self, live: Players, fixed: Players, target: Players, drawn: dict[str, Row]
    ) -> dict[str, Float[Array, ""]]:
        """The losses of `of_rows` as the terms, weights and guidance declare them, without a stop.

        Those of other players than the map are taken as they are where the term does not say what
        of them is stopped."""
        count = sum(len(rows.s) for rows in drawn.values())
        totals = {"model": jnp.zeros(())}
        for kind in self.kinds:
            if kind.name not in drawn:
                continue
            rows = self.declared_guidance(kind, fixed["model"], target["model"], drawn[kind.name])
            share = len(rows.s) / count
            totals["model"] += share * declared_loss(kind, live, fixed, target, rows)
            for name in [name for name in live if name != "model"]:
                loss = declared_loss_of(name, kind, live, fixed, target, rows)
                if loss is not None:
                    totals[name] = totals.get(name, jnp.zeros(())) + share * loss
        return totals

    def declared_guidance(self, kind: RowKind, model: FlowMap, target: FlowMap, rows: Row) -> Row:
        """The guided rows, without a stop or a shared evaluation; see `Guide.declared`."""
        guide = self.guide
        if guide is None or not guide.targets:
            return rows
        diagonal = isinstance(kind.term, JointTerm) and kind.term.diagonal
        return jax.vmap(lambda row: guide.declared(model, target, row, diagonal))(rows)

    def check(self, batch: int, pieces: int) -> None:
        counts = split_counts(batch, tuple(kind.share for kind in self.kinds))
        for kind, n in zip(self.kinds, counts):
            check_kind(kind, n, pieces)
            dropped, of_piece = self.num_dropped(n), self.num_dropped(n // pieces)
            if self.guide is not None and dropped != pieces * of_piece:
                raise UserError(
                    f"--accumulate {pieces} does not divide the {dropped} rows without a label: "
                    "choose another --batch or --plugin.label-drop"
                )

    def divided(
        self, batch: Batch, key: Key[Array, ""], step: Int[Array, ""], pieces: int
    ) -> dict[str, Row]:
        drawn = self.draw(self.weighed(batch), key, step)
        kinds = {kind.name: kind for kind in self.kinds}
        return {name: split_rows(kinds[name], rows, pieces) for name, rows in drawn.items()}

    def of_piece(
        self, players: Players, target: Players, piece: dict[str, Row]
    ) -> tuple[dict[str, Float[Array, ""]], Metrics]:
        return self.of_rows(players, target, piece)

    def weighed(self, batch: Batch) -> Batch:
        """The batch with the weights of its examples, where they have any."""
        if self.weigh is None:
            return batch
        return dataclasses.replace(batch, weight=stop(self.weigh(batch.x_0)))

    def rows(self, kind: RowKind, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]) -> Row:
        """The rows (a `Row` whose arrays have a leading axis) of one kind for these examples."""
        n = len(batch.x_0)
        progress = jnp.clip(step / self.steps, 0.0, 1.0)
        key_times, key_noise, key_drop, key_rows = jr.split(key, 4)
        # Times are drawn for all rows at once, since mixtures divide the `n` rows by fixed counts.
        # All in unit time, which every path shares; the row gets the path's own times.
        s, t = kind.times(key_times, n, progress)
        u = t if kind.step is None else kind.step(s, t, progress)
        s, u, t = (jax.vmap(self.path.time_of_unit)(time) for time in (s, u, t))
        z = batch.z
        if z is None:
            z = jax.vmap(lambda k: self.path.noise(k, batch.x_0.shape[1:]))(jr.split(key_noise, n))
        cond = self._conditions(batch.label, s == t, key_drop)
        if self.states is not None:
            # A fifth child of the key, so that objectives without states keep their random numbers.
            see, keys = partial(self.states, gaussian(self.path)), jr.split(jr.fold_in(key, 4), n)
            cond = jax.vmap(see)(batch.x_0, cond, keys)
        build = jax.vmap(
            lambda u, *parts: make_row(self.path, *parts, u=u, progress=jnp.asarray(progress))
        )
        rows = build(u, batch.x_0, z, s, t, cond, jr.split(key_rows, n))
        if batch.weight is None:
            return rows
        # Weights multiply the loss, not the residual, so that the oracle checks see residuals as
        # they are.
        return jax.vmap(lambda row, w: dataclasses.replace(row, factor=w))(rows, batch.weight)

    def _conditions(
        self, label: Int[Array, " n"] | None, diagonal: Bool[Array, " n"], key: Key[Array, ""]
    ) -> Condition | None:
        """Labels, some dropped, and guidance: a `Condition` whose arrays have a leading axis."""
        if label is None or self.num_classes == 0:
            return None
        n = len(label)
        drop = jr.bernoulli(key, self.label_drop, (n,))
        if self.guide is not None:
            # A fixed number instead of coin tosses: the slice in `guided` then has a static shape.
            drop = jnp.arange(n) < self.num_dropped(n)
        label = jnp.where(drop, self.num_classes, label)
        if self.guide is None:
            return jax.vmap(Condition)(label)
        return jax.vmap(Condition)(label, self.guide.draw(jr.fold_in(key, 1), drop, diagonal))

    def num_dropped(self, n: int) -> int:
        """How many of `n` rows lose their label where guidance is learned."""
        return round(self.label_drop * n)

    def guided(self, kind: RowKind, target: FlowMap, rows: Row) -> Row:
        """Rows of `rows`, with the guided target in the place of the pair's velocity.

        A method that needs the network's velocity at the same points as well, iMF for one, shares
        the evaluation.
        """
        if self.guide is None or not self.guide.targets:
            return rows
        # Rows without a label need no velocity of the null class, so only the others evaluate it.
        guide, first = self.guide, self.num_dropped(len(rows.s))
        labelled = jax.tree.map(lambda leaf: leaf[first:], rows)
        v_null = jax.vmap(lambda row: guide.null_velocity(target, row))(labelled)
        v_null = jnp.concatenate([jnp.zeros_like(rows.v[:first]), v_null])
        diagonal = isinstance(kind.term, JointTerm) and kind.term.diagonal
        return jax.vmap(lambda row, v: guide(target, row, v, diagonal))(rows, v_null)


def _part(leaf: Array, start: int, n: int, blocks: int) -> Array:
    """`n` of the rows of a batch that is taken as `blocks` equal blocks: the same of each block.

    A batch that is divided over devices, as many as divide every count, is split where it lies;
    one range of its rows would have to be sent from some devices to the others.
    """
    leaf = leaf.reshape(blocks, -1, *leaf.shape[1:])
    leaf = leaf[:, start // blocks : (start + n) // blocks]
    return leaf.reshape(n, *leaf.shape[2:])


LOG_WEIGHT = "log_weight"
"""Name of the player that is a learned weight, if there is one: `core.objectives.log_weight`."""


def kind_losses(
    kind: RowKind, players: Players, target: Players, rows: Row
) -> tuple[dict[str, Float[Array, ""]], Metrics]:
    """The mean loss of one kind of rows for each player that it trains, and what is logged: the
    flow map's unweighted squared residual, "residual" (mean over rows and dimensions), and what
    the term observes."""
    term = kind.term
    if not isinstance(term, GroupTerm):
        losses, seen = jax.vmap(
            lambda row: row_losses(kind, _masked(players, row.key), target, row)
        )(rows)
        means = [
            {name: jnp.mean(values) for name, values in each.items()} for each in (losses, seen)
        ]
        return means[0], means[1]
    model, stopped, size = players["model"], target["model"], term.size
    if len(rows.s) % size:
        raise UserError(
            f"{len(rows.s)} rows of kind {kind.name!r} do not make groups of {size}: "
            "choose another --batch or --plugin.group"
        )
    groups = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), rows)
    assert isinstance(kind.weight, Weight)
    weight = kind.weight
    losses, raw = jax.vmap(
        lambda group: term.loss(_masked(model, group.key[0]), stopped, group, weight)
    )(groups)
    return {"model": jnp.mean(losses)}, {"residual": jnp.mean(raw)}


MASK = 0x6D61736B
"""What a row's key is folded with for dropout: far from what terms fold in."""


def _masked(players: Any, key: Key[Array, ""]) -> Any:
    """The trained networks with the row's own masks, where they have dropout. Targets have none."""
    return with_masks(players, jr.fold_in(key, MASK)) if has_dropout(players) else players


def row_losses(
    kind: RowKind, players: Players, target: Players, row: Row
) -> tuple[dict[str, Float[Array, ""]], Metrics]:
    """The weighted loss of one row for each player that it trains, and what is logged: the flow
    map's unweighted squared residual (mean over dimensions), and what the term observes.

    With a player `log_weight`, `w(s, t)`, the model's loss `L` becomes `sg[e^w] L`, and that player
    has the loss `e^w sg[L] - w`, least at `e^w = 1 / E[L]`.
    """
    assert isinstance(kind.term, JointTerm)
    parts, seen = kind.term.observed(players, target, row)
    losses = {name: _weighted(kind.weight, group, row) for name, group in parts.items()}
    losses["model"] = losses["model"] * row.factor
    if LOG_WEIGHT in players:
        level, loss = players[LOG_WEIGHT](row.unit), losses["model"]
        losses[LOG_WEIGHT] = jnp.exp(level) * jax.lax.stop_gradient(loss) - level
        losses["model"] = jax.lax.stop_gradient(jnp.exp(level)) * loss
    return losses, {"residual": square(parts["model"][0], "mean"), **seen}


def declared_loss(
    kind: RowKind, live: Players, fixed: Players, target: Players, rows: Row
) -> Float[Array, ""]:
    """The mean loss of the map in these rows, with the gradient of `live` as it is declared."""
    if isinstance(kind.term, GroupTerm):
        term, weight = kind.term, kind.weight
        assert isinstance(weight, Weight)
        groups = jax.tree.map(lambda leaf: leaf.reshape(-1, term.size, *leaf.shape[1:]), rows)
        models = live["model"], fixed["model"], target["model"]
        return jnp.mean(jax.vmap(lambda group: term.declared(*models, group, weight))(groups))
    return jnp.mean(jax.vmap(lambda row: _declared_row(kind, live, fixed, target, row))(rows))


def declared_loss_of(
    name: str, kind: RowKind, live: Players, fixed: Players, target: Players, rows: Row
) -> Float[Array, ""] | None:
    """The mean loss of another player in these rows as it is declared; None where it has none."""
    others, term = fixed | {name: live[name]}, kind.term

    def one(row: Row) -> Array | None:
        assert isinstance(term, JointTerm)
        parts = term.declared_of(name, others, fixed, target, row)
        return None if parts is None else _weighted(kind.weight, parts, row)

    found = jax.vmap(one)(rows) if isinstance(term, JointTerm) else None
    if found is None:
        return kind_losses(kind, others, target, rows)[0].get(name)
    return jnp.mean(found)


def _declared_row(
    kind: RowKind, live: Players, fixed: Players, target: Players, row: Row
) -> Float[Array, ""]:
    assert isinstance(kind.term, JointTerm)
    free, still = (kind.term.declared(now, fixed, target, row) for now in (live, fixed))
    weights = kind.weight if isinstance(kind.weight, tuple) else (kind.weight,) * len(free)
    parts = zip(weights, free, still, strict=True)
    loss = row.factor * sum((w.declared(R, r, row.unit) for w, R, r in parts), jnp.zeros(()))
    return jnp.exp(fixed[LOG_WEIGHT](row.unit)) * loss if LOG_WEIGHT in fixed else loss


def _weighted(weight: Weight | tuple[Weight, ...], parts: Residuals, row: Row) -> Array:
    weights = weight if isinstance(weight, tuple) else (weight,) * len(parts)
    return jnp.asarray(sum(w(part, row.unit) for w, part in zip(weights, parts, strict=True)))
