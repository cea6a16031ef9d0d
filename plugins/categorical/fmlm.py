"""Flow map language models: a network for what a teacher's straight line misses, by halves.

    F = x + (t - s) v_teacher(x, s) + (t - s)^2 / 2 g(x, s, t),
    L = E w |psi(x_s, s, t) - sg[psi by two halves]|^2,     psi = x - s V

The halves are equal in the warped time. The teacher stays in the map: its velocity is the diagonal,
sampling evaluates both networks, and both are saved. Squares of endpoints: the sum over symbols,
the mean over positions. Their second version, with cross-entropies, and the distillation that
merges both networks are not here.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError, require
from core.flow import rules
from core.flow.categorical import CategoricalMap, TokenMap
from core.flow.condition import Condition
from core.flow.flow_map import Abilities, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.teacher import MapTeacher, Teacher, frozen
from core.methods.card import Card
from core.methods.plugin import Method, Task
from core.methods.registry import register
from core.methods.row_plugin import needed
from core.objectives.carriers import VALUE, Carrier, Declares
from core.objectives.objective import RowKind, Term
from core.objectives.row import Row
from core.objectives.weights import Adaptive, Weight
from core.overriding import overridable
from core.times.distributions import Point, Uniform
from core.times.pairs import Gap, Mixture, OrderedPair
from core.times.warp import Warp, WarpedPair, between
from core.train.absent import AbsentTeacher
from plugins.categorical.base import CategoricalPlugin

ENDPOINT = Carrier("s V", lambda model, row: row.s * VALUE.of(model, row))


class ResidualMap(FlowMap):
    """`V = v_base(x, s) + (t - s) / 2 g(x, s, t)`, `g` the output of a network, `base` frozen.

    Source: Flow Map Language Models (arXiv 2602.16813), in the first version of their code.
    """

    base: TokenMap
    student: CategoricalMap
    path: Interpolant

    def average_velocity(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        g = self.student.logits(x, s, t, cond)
        return frozen(self.base).velocity(x, s, cond) + (t - s) / 2 * g

    @property
    def abilities(self) -> Abilities:
        return Abilities(evaluations=2)


class HalfEndpoints(Term):
    """`s (V - sg[two halves])`, the difference of the endpoints `x - s V`, with its sign turned."""

    warp: Warp | None = None

    @property
    def declares(self) -> Declares:
        return Declares((ENDPOINT,))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "length symbols"]:
        del target
        s, t, still = row.s, row.t, frozen(model)
        u = between(s, t, jnp.full_like(s, 0.5), self.warp, row.x_s.shape[-1])
        fraction = (u - t) / jnp.maximum(s - t, 1e-12)
        two = rules.compositional(still, row.x_s, s, t, fraction, row.cond)
        V = model.average_velocity(row.x_s, s, t, row.cond)
        return s * V - jax.lax.stop_gradient(s * two)


@register
class FMLM(CategoricalPlugin):
    """Flow map language models (arXiv 2602.16813), first version: teacher and student together."""

    card = Card(
        "fmlm",
        rule="compositional",
        supervision="own two halves beside a teacher",
        source="arXiv 2602.16813",
        cost=7,
        whole_cost=7,
        parameterisation="teacher + (t - s) / 2 N",
        gradient="s V",
    )
    needs_teacher = True

    diagonal: float = 0.0
    full: float = 1 / 64
    """Share of the rows that train the whole jump of one-step sampling."""
    learned_weight: bool = True

    def __post_init__(self):
        super().__post_init__()
        require(self.diagonal == 0, "--plugin.diagonal is the teacher's with fmlm: leave it out")
        require(0 <= self.full <= 1, f"--plugin.full must be in [0, 1], got {self.full}")

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        student = self.token_map(net, path)
        return ResidualMap(base=student, student=student, path=path)

    @overridable
    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        made = super().method(net, path, teacher, task, key=key)
        student = self.token_map(net, path)
        base = kept(needed(teacher, self.card.name), student)
        flow_map = ResidualMap(base=base, student=student, path=path)
        return dataclasses.replace(made, flow_map=flow_map)

    def kinds(self, symbols: int) -> tuple[RowKind, ...]:
        whole, gaps = OrderedPair(Point(1.0), Point(0.0)), Gap(Uniform())
        pairs = Mixture((whole, gaps), (self.full, 1 - self.full))
        times = pairs if self.warp is None else WarpedPair(pairs, symbols, self.warp)
        return (RowKind("jump", 1.0, times, self.jump(), self.weight()),)

    def jump(self) -> Term:
        return HalfEndpoints(self.warp)

    def weight(self) -> Weight:
        return Adaptive(self.power, self.constant, "positions")


def kept(teacher: Teacher, student: CategoricalMap) -> TokenMap:
    """The teacher's map, which the run keeps; of a run that is only opened, one of its shape.

    Raises `UserError` where the teacher is no map of tokens, or one of another network.
    """
    if isinstance(teacher, AbsentTeacher):
        return student
    base = teacher.flow_map if isinstance(teacher, MapTeacher) else None
    if not isinstance(base, TokenMap):
        raise UserError("fmlm keeps its teacher in the map: --teacher must be a run of tokens")
    if isinstance(base, CategoricalMap) and _shape(base) != _shape(student):
        raise UserError("fmlm keeps its teacher in the map: give both runs the same --net flags")
    arrays, static = eqx.partition(base, eqx.is_array)
    return eqx.combine(jax.tree.map(jnp.copy, arrays), static)


def _shape(flow_map: CategoricalMap) -> list[tuple[int, ...]]:
    return [leaf.shape for leaf in jax.tree.leaves(eqx.filter(flow_map.net, eqx.is_array))]
