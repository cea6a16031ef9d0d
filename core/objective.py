"""Objectives: what a training step minimises.

`Objective` is the contract with the training loop. Nearly every method is a `RowObjective`: a
static split of the batch into kinds of rows (diagonal, jump, bootstrap, ...), each with its own
time sampler, its own residual (a `Term`) and its own weight, so that only the rows that need a
derivative or a teacher pay for it.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.condition import Condition
from core.flow_map import FlowMap
from core.path import Path
from core.times import TimeSampler, split_counts
from core.weights import Squared, Weight, square

Players = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]


class Batch(eqx.Module):
    """Clean examples `x_0` (n, *shape) and their labels (n,), or None."""

    x_0: Float[Array, " n *shape"]
    label: Int[Array, " n"] | None = None


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
        names with the parameters that targets use, gradients already stopped. The loop
        differentiates each loss by its own player only.
        """


class Row(eqx.Module):
    """One training example at one pair of times.

    `x_s = alpha(s) x_0 + sigma(s) z` and `v` is its conditional velocity, the derivative of that
    line in `s`; `key` is the row's own randomness.
    """

    x_0: Float[Array, "*shape"]
    z: Float[Array, "*shape"]
    s: Float[Array, ""]
    t: Float[Array, ""]
    x_s: Float[Array, "*shape"]
    v: Float[Array, "*shape"]
    cond: Condition | None
    key: Key[Array, ""]


def make_row(
    path: Path,
    x_0: Float[Array, "*shape"],
    z: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    cond: Condition | None,
    key: Key[Array, ""],
) -> Row:
    """The row of the pair `(x_0, z)` at the path times `s`, `t`."""
    x_s, v = path.interpolate(x_0, z, s), path.conditional_velocity(x_0, z, s)
    return Row(x_0=x_0, z=z, s=s, t=t, x_s=x_s, v=v, cond=cond, key=key)


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


class Rows(eqx.Module):
    """One kind of rows: its share of the batch, its times, its residual and its weight."""

    name: str = eqx.field(static=True)
    share: float = eqx.field(static=True)
    times: TimeSampler
    term: Term
    weight: Weight = Squared()


class FlowMatching(Term):
    """`V(x_s, s, s) - v`: the diagonal regresses the conditional velocity.

    Source: flow matching (arXiv 2210.02747), eq. 9.
    """

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        return model.velocity(row.x_s, row.s, row.cond) - row.v


class RowObjective(Objective):
    """A static split of the batch into kinds of rows; the loss is the mean over all rows.

    **Fields:** `path` of the training pairs; `kinds` whose shares sum to 1; `num_classes` (0: no
    labels) and `label_drop`, the probability with which a label becomes the null class
    `num_classes`, drawn row by row independently of the kinds.

    Every array of the loss is float32 at least. Metrics: the loss, and per kind the unweighted
    mean squared residual, `<kind>/residual`.
    """

    path: Path
    kinds: tuple[Rows, ...]
    num_classes: int = eqx.field(static=True, default=0)
    label_drop: float = eqx.field(static=True, default=0.0)

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
        total, metrics, start = jnp.zeros(()), {}, 0
        for kind, n, kind_key in zip(self.kinds, counts, jr.split(key, len(counts))):
            if n == 0:
                continue
            part = jax.tree.map(lambda leaf: leaf[start : start + n], batch)
            rows = self.rows(kind, part, kind_key, step)
            losses, raw = jax.vmap(lambda row: row_loss(kind, players, target, row))(rows)
            total = total + jnp.sum(losses) / len(batch.x_0)
            metrics[f"{kind.name}/residual"] = jnp.mean(raw)
            start += n
        return {"model": total}, carry, {"loss": total, **metrics}

    def rows(self, kind: Rows, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]) -> Row:
        """The rows (a `Row` whose arrays have a leading axis) of one kind for these examples."""
        n = len(batch.x_0)
        key_times, key_noise, key_drop, key_rows = jr.split(key, 4)
        s, t = (jax.vmap(self.path.time_of_unit)(u) for u in kind.times(key_times, n, step))
        z = jax.vmap(lambda k: self.path.noise(k, batch.x_0.shape[1:]))(jr.split(key_noise, n))
        label = self._label(batch.label, n, key_drop)
        cond = None if label is None else jax.vmap(lambda c: Condition(label=c))(label)
        build = jax.vmap(lambda *parts: make_row(self.path, *parts))
        return build(batch.x_0, z, s, t, cond, jr.split(key_rows, n))

    def _label(
        self, label: Int[Array, " n"] | None, n: int, key: Key[Array, ""]
    ) -> Int[Array, " n"] | None:
        if label is None or self.num_classes == 0:
            return None
        drop = jr.bernoulli(key, self.label_drop, (n,))
        return jnp.where(drop, self.num_classes, label)


def residuals(term: Term, model: FlowMap, target: FlowMap, row: Row) -> tuple[Array, ...]:
    """The residuals of a term as a tuple, also where it returns a single array."""
    result = term(model, target, row)
    return result if isinstance(result, tuple) else (result,)


def row_loss(
    kind: Rows, players: Players, target: Players, row: Row
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The weighted loss of one row, and the unweighted squared residual (mean over dimensions)."""
    parts = residuals(kind.term, players["model"], target["model"], row)
    loss = sum(kind.weight(part, row.s, row.t) for part in parts)
    return jnp.asarray(loss), square(parts[0], "mean")
