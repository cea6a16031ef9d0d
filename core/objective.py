"""Objectives: what a training step minimises.

`Objective` is the contract with the training loop. Nearly every method is a `RowObjective`: a
static split of the batch into kinds of rows (diagonal, jump, bootstrap, ...), each with its own
time sampler, its own residual (a `Term`) and its own weight, so that only the rows that need a
derivative or a teacher pay for it.
"""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.condition import Condition
from core.errors import UserError
from core.flow_map import FlowMap
from core.laws import split_counts
from core.path import Path
from core.row import Row, make_row
from core.steps import Step
from core.teacher import Teacher, frozen
from core.times import TimeSampler
from core.weights import Squared, Weight, square

Players = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]
Residuals = tuple[Float[Array, "..."], ...]


class Batch(eqx.Module):
    """Clean examples `x_0` (n, *shape), their labels (n,) and the noise paired with each, or None.

    Without `z` each example gets fresh noise.
    """

    x_0: Float[Array, " n *shape"]
    label: Int[Array, " n"] | None = None
    z: Float[Array, " n *shape"] | None = None


class Objective(eqx.Module):
    """What a training step minimises: pure, with what must persist carried in and out."""

    def init(self, players: Players) -> Any:
        """The carry before the first step (queues, running statistics): a pytree; empty here."""
        del players
        return None

    @abc.abstractmethod
    def __call__(
        self,
        players: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[dict[str, Float[Array, ""]], Any, Metrics]:
        """The losses, one a player, the new carry and scalar metrics.

        **Arguments:** `players` the trained networks, `{"model": FlowMap, ...}`; `target` the same
        names with the parameters that targets use, gradients already stopped. Each loss must
        depend on its own player only: pass the others through `core.teacher.frozen`.
        """


class Term(eqx.Module):
    """The residual of one row. Its squared norm is what the row adds to the loss.

    A term whose natural form is an inner product `<V, sg[g]>` returns `V - sg[V - g]`, which has
    the same gradient.
    """

    @abc.abstractmethod
    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> Float[Array, "*shape"] | tuple[Float[Array, "*shape"], ...]:
        """The residual, or several, each weighted by itself.

        **Arguments:** `model` the trained map; `target` the map with the parameters that targets
        use (no gradient reaches them); `row` one example.
        """

    def residuals(self, players: Players, target: Players, row: Row) -> dict[str, Residuals]:
        """The residuals of every player that these rows train; the flow map's first.

        By default those of `__call__`, for the player "model". Overridden where rows train a
        second network too; the residuals of one player must not depend on another's parameters.
        """
        result = self(players["model"], target["model"], row)
        return {"model": result if isinstance(result, tuple) else (result,)}

    @property
    def order(self) -> int | None:
        """None for a rule that is exact; `k` where the residual of the exact map is O(step^k)."""
        return None

    def with_step(self, step: float) -> "Term":
        """The same term with another step, here its field `step`; for terms with an `order`."""
        return dataclasses.replace(self, **{"step": step})


class GroupTerm(eqx.Module):
    """The loss of a group of rows that are compared with one another, as in moment matching."""

    size: eqx.AbstractVar[int]

    @abc.abstractmethod
    def loss(self, model: FlowMap, target: FlowMap, rows: Row, weight: Weight) -> Float[Array, ""]:
        """The loss a row of one group: `rows` is a `Row` whose arrays have a leading axis `size`.

        `weight` is that of the kind; most group terms take its factor of time alone.
        """

    @abc.abstractmethod
    def single(self) -> Term:
        """The residual that the rows of a group would have alone: what the oracle checks look at,
        and the metric."""

    @abc.abstractmethod
    def exact(self, flow_map: FlowMap) -> "GroupTerm":
        """The same loss with neighbours on the trajectories of `flow_map`, an exact one: then it
        must be 0, and its gradient too."""


class Rows(eqx.Module):
    """One kind of rows: its share of the batch, its times, its residual and its weight.

    `weight` is one for all residuals of the term, or a tuple with one for each. `step` gives each
    row a neighbour `u` of `s`; without one `u` is the target time.
    """

    name: str = eqx.field(static=True)
    share: float = eqx.field(static=True)
    times: TimeSampler
    term: Term | GroupTerm
    weight: Weight | tuple[Weight, ...] = Squared()
    step: Step | None = None


class FlowMatching(Term):
    """`V(x_s, s, s) - v`: the diagonal regresses the conditional velocity.

    Source: flow matching (arXiv 2210.02747), eq. 9.
    """

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        return model.velocity(row.x_s, row.s, row.cond) - row.v


class TeacherMatching(Term):
    """`V(x_s, s, s) - v_teacher(x_s, s)`: the diagonal regresses the teacher."""

    teacher: Teacher

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        v = jax.lax.stop_gradient(self.teacher.velocity(row.x_s, row.s, row.cond))
        return model.velocity(row.x_s, row.s, row.cond) - v


class RowObjective(Objective):
    """A static split of the batch into kinds of rows; the loss is the mean over all rows.

    **Fields:** `path` of the training pairs; `kinds` whose shares sum to 1; `num_classes` (0: no
    labels) and `label_drop`, the probability with which a label becomes the null class
    `num_classes`, drawn row by row independently of the kinds; `steps` of the whole training, which
    turn the step into the progress that curricula follow.

    Every array of the loss is float32 at least. Metrics: the loss, and per kind the unweighted
    mean squared residual, `<kind>/residual`.
    """

    path: Path
    kinds: tuple[Rows, ...]
    num_classes: int = eqx.field(static=True, default=0)
    label_drop: float = eqx.field(static=True, default=0.0)
    steps: int = eqx.field(static=True, default=1)

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
        counts = split_counts(len(batch.x_0), tuple(kind.share for kind in self.kinds))
        totals: dict[str, Float[Array, ""]] = {}
        metrics, start = {}, 0
        for kind, n, kind_key in zip(self.kinds, counts, jr.split(key, len(counts))):
            if n == 0:
                continue
            part = jax.tree.map(lambda leaf: leaf[start : start + n], batch)
            rows = self.rows(kind, part, kind_key, step)
            losses, raw = kind_losses(kind, players, target, rows)
            for name, value in losses.items():
                totals[name] = totals.get(name, jnp.zeros(())) + value * (n / len(batch.x_0))
            metrics[f"{kind.name}/residual"] = raw
            start += n
        return totals, carry, {"loss": totals["model"], **metrics}

    def rows(self, kind: Rows, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]) -> Row:
        """The rows (a `Row` whose arrays have a leading axis) of one kind for these examples."""
        n = len(batch.x_0)
        progress = jnp.clip(step / self.steps, 0.0, 1.0)
        key_times, key_noise, key_drop, key_rows = jr.split(key, 4)
        s, t = kind.times(key_times, n, progress)
        u = t if kind.step is None else kind.step(s, t, progress)
        s, u, t = (jax.vmap(self.path.time_of_unit)(time) for time in (s, u, t))
        z = batch.z
        if z is None:
            z = jax.vmap(lambda k: self.path.noise(k, batch.x_0.shape[1:]))(jr.split(key_noise, n))
        label = self._label(batch.label, n, key_drop)
        cond = None if label is None else jax.vmap(lambda c: Condition(label=c))(label)
        build = jax.vmap(
            lambda u, *parts: make_row(self.path, *parts, u=u, progress=jnp.asarray(progress))
        )
        return build(u, batch.x_0, z, s, t, cond, jr.split(key_rows, n))

    def _label(
        self, label: Int[Array, " n"] | None, n: int, key: Key[Array, ""]
    ) -> Int[Array, " n"] | None:
        if label is None or self.num_classes == 0:
            return None
        drop = jr.bernoulli(key, self.label_drop, (n,))
        return jnp.where(drop, self.num_classes, label)


LOG_WEIGHT = "log_weight"
"""Name of the player that is a learned weight, if there is one; see `core.log_weight`."""


def kind_losses(
    kind: Rows, players: Players, target: Players, rows: Row
) -> tuple[dict[str, Float[Array, ""]], Float[Array, ""]]:
    """The mean loss of one kind of rows for each player that it trains, and the flow map's
    unweighted squared residual (mean over rows and dimensions)."""
    term = kind.term
    if not isinstance(term, GroupTerm):
        losses, raw = jax.vmap(lambda row: row_losses(kind, players, target, row))(rows)
        return {name: jnp.mean(values) for name, values in losses.items()}, jnp.mean(raw)
    model, stopped, size = players["model"], target["model"], term.size
    if len(rows.s) % size:
        raise UserError(
            f"{len(rows.s)} rows of kind {kind.name!r} do not make groups of {size}: "
            "choose another --batch or --plugin.group"
        )
    groups = jax.tree.map(lambda leaf: leaf.reshape(-1, size, *leaf.shape[1:]), rows)
    assert isinstance(kind.weight, Weight)
    weight = kind.weight
    losses = jax.vmap(lambda group: term.loss(model, stopped, group, weight))(groups)
    first = jax.tree.map(lambda leaf: leaf[:, 0], groups)

    def alone(row: Row) -> Array:
        parts = term.single().residuals(frozen(players), target, row)
        return square(parts["model"][0], "mean")

    return {"model": jnp.mean(losses)}, jnp.mean(jax.vmap(alone)(first))


def row_losses(
    kind: Rows, players: Players, target: Players, row: Row
) -> tuple[dict[str, Float[Array, ""]], Float[Array, ""]]:
    """The weighted loss of one row for each player that it trains, and the flow map's unweighted
    squared residual (mean over dimensions).

    With a player `log_weight`, `w(s, t)`, the model's loss `L` becomes `sg[e^w] L`, and that player
    has the loss `e^w sg[L] - w`, least at `e^w = 1 / E[L]`.
    """
    assert isinstance(kind.term, Term)
    parts = kind.term.residuals(players, target, row)
    losses = {name: _weighted(kind.weight, group, row) for name, group in parts.items()}
    if LOG_WEIGHT in players:
        level, loss = players[LOG_WEIGHT](row.unit), losses["model"]
        losses[LOG_WEIGHT] = jnp.exp(level) * jax.lax.stop_gradient(loss) - level
        losses["model"] = jax.lax.stop_gradient(jnp.exp(level)) * loss
    return losses, square(parts["model"][0], "mean")


def _weighted(weight: Weight | tuple[Weight, ...], parts: Residuals, row: Row) -> Array:
    weights = weight if isinstance(weight, tuple) else (weight,) * len(parts)
    return jnp.asarray(sum(w(part, row.unit) for w, part in zip(weights, parts, strict=True)))
