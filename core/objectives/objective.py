"""Objectives: the losses that a training step minimises.

`Objective` is the contract with the training loop. Nearly every method is a `RowObjective`: a
static split of the batch into kinds of rows (diagonal, jump, bootstrap, ...), each with its own
time sampler, its own residual (a `Term`) and its own weight, so that only the rows that need a
derivative or a teacher pay for it.
"""

import abc
import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, Float, Int, Key

from core.flow.flow_map import FlowMap
from core.flow.space import Space
from core.flow.teacher import Teacher
from core.objectives.carriers import EVERYTHING, JUMP, VALUE, VELOCITY, Declares
from core.objectives.row import Row
from core.objectives.weights import Squared, Weight
from core.overriding import overridable
from core.times.pairs import TimeSampler
from core.times.steps import Step

Players = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]
Residuals = tuple[Float[Array, "..."], ...]


class Batch(eqx.Module):
    """Clean examples `x_0` (n, *shape), their labels (n,) and the noise paired with each, or None.

    Without `z` each example gets fresh noise. `weight` is how much an example counts, with mean 1;
    without it all count alike.
    """

    x_0: Float[Array, " n *shape"]
    label: Int[Array, " n"] | None = None
    z: Float[Array, " n *shape"] | None = None
    weight: Float[Array, " n"] | None = None


class Objective(eqx.Module):
    """The losses of a training step: pure, with the state that must persist carried in and out."""

    @overridable
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
        depend on its own player only: pass the others through `core.flow.teacher.frozen`.
        """

    @property
    @overridable
    def declares(self) -> Declares:
        """Where the gradient of the map's loss flows: by default nothing is stopped."""
        return Declares((EVERYTHING,), ())

    @overridable
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
        """The losses without a stop, of two copies of the players: where a gradient should flow
        stands `live`, where a number is meant `fixed`. The check G0 compares gradients with it.

        By default nothing is stopped: each loss is that of a call with its own player live.
        """
        return {
            name: self(fixed | {name: player}, target, carry, batch, key, step)[0][name]
            for name, player in live.items()
        }


class DivisibleObjective(Objective):
    """An objective whose losses are means over what a step draws, so that a step may take it in
    equal pieces, one after the other. It carries nothing."""

    @abc.abstractmethod
    def check(self, batch: int, pieces: int) -> None:
        """Raises `UserError` where `pieces` steps would not add up to that of the whole batch."""

    @abc.abstractmethod
    def divided(self, batch: Batch, key: Key[Array, ""], step: Int[Array, ""], pieces: int) -> Any:
        """What a call with these arguments draws, as arrays with a leading axis of pieces."""

    @abc.abstractmethod
    def of_piece(
        self, players: Players, target: Players, piece: Any
    ) -> tuple[dict[str, Float[Array, ""]], Metrics]:
        """The losses and metrics of one piece; their means over the pieces are those of a call."""


class JointTerm(eqx.Module):
    """The residuals of one row, for each player that the row trains.

    The squared norm of a residual is the row's share of the loss of its player. A term whose
    natural form is an inner product `<V, sg[g]>` returns `V - sg[V - g]`, which has the same
    gradient. Nearly every method trains the flow map alone and writes a `Term`.
    """

    diagonal: ClassVar[bool] = False
    """Whether it evaluates the velocity at `(x_s, s)` and regresses `row.target` of that."""
    biased: ClassVar[bool] = False
    """Whether the exact map is known to be no fixed point: its bias is printed, not refused."""

    @abc.abstractmethod
    def residuals(self, players: Players, target: Players, row: Row) -> dict[str, Residuals]:
        """The residuals of every player that these rows train; the flow map's first, "model".

        The residuals of one player must not depend on another's parameters. **Arguments:**
        `players` the trained networks by name; `target` the same with the parameters that targets
        use (no gradient reaches them); `row` one example.
        """

    @overridable
    def observed(
        self, players: Players, target: Players, row: Row
    ) -> tuple[dict[str, Residuals], Metrics]:
        """`residuals`, and scalars of the row for the log, from the same evaluations."""
        return self.residuals(players, target, row), {}

    @property
    @overridable
    def declares(self) -> Declares:
        """Where the gradient of the map's residuals flows, which the check G0 holds the term
        against: by default through `V(x_s, s, t)` alone."""
        return Declares((VALUE,))

    @overridable
    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        """The map's residuals as `declares` says, without a stop: carriers of `live`, minus numbers
        that `fixed` and `target` give.

        A term whose carrier has no short name writes itself down here.
        """
        carriers, model, still = self.declares.carriers, live["model"], fixed["model"]
        if all(carrier.read is None for carrier in carriers):
            return self.residuals(live, target, row)["model"]
        if self.of_points(model.path.space):
            return self.residuals(live, target, row)["model"]
        here = self.residuals(fixed, target, row)["model"]
        return tuple(
            R + carrier.of(model, row) - carrier.of(still, row)
            for carrier, R in zip(carriers, here, strict=True)
        )

    def of_points(self, space: Space) -> bool:
        """Whether the residual compares points of a space where they have no difference: then all
        of its numbers are other players', and what is live is all of the map."""
        declares = self.declares
        return JUMP in declares.carriers and "current" not in declares.numbers and not space.flat

    @overridable
    def declared_of(
        self, name: str, live: Players, fixed: Players, target: Players, row: Row
    ) -> Residuals | None:
        """The residuals of another player than the map as `declared` has the map's; None where
        they are as `residuals` gives them, without a stop on parameters of that player."""
        del name, live, fixed, target, row
        return None

    @property
    @overridable
    def order(self) -> int | None:
        """None for a rule that is exact; `k` where the residual of the exact map is O(step^k)."""
        return None

    @overridable
    def amplification(self, step: Step | None) -> float:
        """By how much the rounding of an evaluation of the network counts in the residual.

        1 where nothing small divides a difference of two evaluations. One over a gap `h` has about
        `0.5 / h`; `step` is that of the kind of rows. Such a term evaluates both under
        `core.flow.rules.full_products`, and a network in bfloat16 is refused where the product of
        this and its rounding is large (`core.methods.precision`).
        """
        del step
        return 1.0

    @overridable
    def with_step(self, step: float) -> "JointTerm":
        """The same term with another step, here its field `step`; for terms with an `order`."""
        return dataclasses.replace(self, **{"step": step})


class Term(JointTerm):
    """The residual of one row that trains the flow map alone."""

    @abc.abstractmethod
    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> Float[Array, "*shape"] | tuple[Float[Array, "*shape"], ...]:
        """The residual, or several, each weighted by itself.

        **Arguments:** `model` the trained map; `target` the map with the parameters that targets
        use (no gradient reaches them); `row` one example.
        """

    def residuals(self, players: Players, target: Players, row: Row) -> dict[str, Residuals]:
        """Those of `__call__`, for the player "model"."""
        result = self(players["model"], target["model"], row)
        return {"model": result if isinstance(result, tuple) else (result,)}


class GroupTerm(eqx.Module):
    """The loss of a group of rows that are compared with one another, as in moment matching."""

    size: eqx.AbstractVar[int]

    @property
    @overridable
    def declares(self) -> Declares:
        """Where the gradient of the loss flows; by default through the whole of it."""
        return Declares((EVERYTHING,), ("target",))

    @overridable
    def declared(
        self, live: FlowMap, fixed: FlowMap, target: FlowMap, rows: Row, weight: Weight
    ) -> Float[Array, ""]:
        """`loss` without a stop: where a gradient should flow stands `live`, where a number is
        meant `fixed`."""
        del fixed
        return self.loss(live, target, rows, weight)[0]

    @abc.abstractmethod
    def loss(
        self, model: FlowMap, target: FlowMap, rows: Row, weight: Weight
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The loss a row of one group, and the mean square of the rows' own residuals, those of
        `single`, for the log: `rows` is a `Row` whose arrays have a leading axis `size`.

        `weight` is that of the kind; most group terms take its factor of time alone.
        """

    @abc.abstractmethod
    def single(self) -> Term:
        """The residual that the rows of a group would have alone, for the oracle checks."""

    @overridable
    def amplification(self, step: Step | None) -> float:
        """By how much the rounding of an evaluation counts: as for the rows alone."""
        return self.single().amplification(step)

    @abc.abstractmethod
    def exact(self, flow_map: FlowMap) -> "GroupTerm":
        """The same loss with neighbours on the trajectories of `flow_map`, an exact one: then it
        must be 0, and its gradient too."""


class RowKind(eqx.Module):
    """One kind of rows: its share of the batch, its times, its residual and its weight.

    `weight` is one for all residuals of the term, or a tuple with one for each. `step` gives each
    row a neighbour `u` of `s`; without one `u` is the target time.
    """

    name: str = eqx.field(static=True)
    share: float = eqx.field(static=True)
    times: TimeSampler
    term: JointTerm | GroupTerm
    weight: Weight | tuple[Weight, ...] = Squared()
    step: Step | None = None


class FlowMatching(Term):
    """`V(x_s, s, s) - v`: the diagonal regresses the conditional velocity.

    Source: flow matching (arXiv 2210.02747), eq. 9.
    """

    diagonal: ClassVar[bool] = True

    @property
    def declares(self) -> Declares:
        return Declares((VELOCITY,), ())

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        velocity = model.velocity(row.x_s, row.s, row.cond)
        return velocity - row.target(velocity)


class TeacherMatching(Term):
    """`V(x_s, s, s) - v_teacher(x_s, s)`: the diagonal regresses the teacher."""

    teacher: Teacher

    @property
    def declares(self) -> Declares:
        return Declares((VELOCITY,), ("teacher",))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        v = jax.lax.stop_gradient(self.teacher.velocity(row.x_s, row.s, row.cond))
        return model.velocity(row.x_s, row.s, row.cond) - v
