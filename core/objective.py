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
from core.flow_map import FlowMap
from core.path import Path
from core.teacher import Teacher
from core.times import TimeSampler, split_counts
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


class Row(eqx.Module):
    """One training example at one pair of times.

    `x_s = alpha(s) x_0 + sigma(s) z` and `v` is its conditional velocity, the derivative of that
    line in `s`; `key` is the row's own randomness, `progress` the fraction of the training that is
    done.
    """

    x_0: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    s: Float[Array, ""]
    t: Float[Array, ""]
    x_s: Float[Array, "*shape"]
    v: Float[Array, "*shape"]
    cond: Condition | None
    key: Key[Array, ""]
    progress: Float[Array, ""]


def make_row(
    path: Path,
    x_0: Float[Array, "*shape"],
    z: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    cond: Condition | None,
    key: Key[Array, ""],
    progress: Float[Array, ""] | None = None,
) -> Row:
    """The row of `(x_0, z)` at the path times `s`, `t`; by default at the end of training."""
    progress = jnp.ones_like(s) if progress is None else progress
    x_s, v = path.interpolate(x_0, z, s), path.conditional_velocity(x_0, z, s)
    return Row(x_0=x_0, z=z, s=s, t=t, x_s=x_s, v=v, cond=cond, key=key, progress=progress)


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


class Rows(eqx.Module):
    """One kind of rows: its share of the batch, its times, its residual and its weight.

    `weight` is one for all residuals of the term, or a tuple with one for each.
    """

    name: str = eqx.field(static=True)
    share: float = eqx.field(static=True)
    times: TimeSampler
    term: Term
    weight: Weight | tuple[Weight, ...] = Squared()


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
            losses, raw = jax.vmap(lambda row: row_losses(kind, players, target, row))(rows)
            for name, values in losses.items():
                totals[name] = totals.get(name, jnp.zeros(())) + jnp.sum(values) / len(batch.x_0)
            metrics[f"{kind.name}/residual"] = jnp.mean(raw)
            start += n
        return totals, carry, {"loss": totals["model"], **metrics}

    def rows(self, kind: Rows, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]) -> Row:
        """The rows (a `Row` whose arrays have a leading axis) of one kind for these examples."""
        n = len(batch.x_0)
        progress = jnp.clip(step / self.steps, 0.0, 1.0)
        key_times, key_noise, key_drop, key_rows = jr.split(key, 4)
        s, t = (jax.vmap(self.path.time_of_unit)(u) for u in kind.times(key_times, n, progress))
        z = batch.z
        if z is None:
            z = jax.vmap(lambda k: self.path.noise(k, batch.x_0.shape[1:]))(jr.split(key_noise, n))
        label = self._label(batch.label, n, key_drop)
        cond = None if label is None else jax.vmap(lambda c: Condition(label=c))(label)
        build = jax.vmap(lambda *parts: make_row(self.path, *parts, progress=progress))
        return build(batch.x_0, z, s, t, cond, jr.split(key_rows, n))

    def _label(
        self, label: Int[Array, " n"] | None, n: int, key: Key[Array, ""]
    ) -> Int[Array, " n"] | None:
        if label is None or self.num_classes == 0:
            return None
        drop = jr.bernoulli(key, self.label_drop, (n,))
        return jnp.where(drop, self.num_classes, label)


def row_losses(
    kind: Rows, players: Players, target: Players, row: Row
) -> tuple[dict[str, Float[Array, ""]], Float[Array, ""]]:
    """The weighted loss of one row for each player that it trains, and the flow map's unweighted
    squared residual (mean over dimensions)."""
    parts = kind.term.residuals(players, target, row)
    losses = {name: _weighted(kind.weight, group, row) for name, group in parts.items()}
    return losses, square(parts["model"][0], "mean")


def _weighted(weight: Weight | tuple[Weight, ...], parts: Residuals, row: Row) -> Array:
    weights = weight if isinstance(weight, tuple) else (weight,) * len(parts)
    return jnp.asarray(sum(w(part, row.s, row.t) for w, part in zip(weights, parts, strict=True)))
