"""F2D2: a divergence head beside a self-distilled map, for samples and their density in few steps.

    D(x_s, s, t) = 1 / (t - s) * integral of div v along the jump / size
    L = L_base + E |D(x_s, s, s) - sg[h(x_s, s)]|^2 + E |R|^2,     h(x, s) = r . (grad v) r / size,
    Lagrangian      R = D(x_s, s, t) + (t - s) sg[dD/dt] - sg[h(F(x_s, s, t), t)]
    compositional   R = D(x_s, s, t) - sg[(1 - g) D(x_s, s, u) + g D(F(x_s, s, u), u, t)]

`r` has entries +-1 and `v` is the map's own diagonal, a number: the divergence of the sampled
pair's velocity says nothing of that of its mean. Both rules are linear in the estimate `h`, so
that they hold in the mean over `r`. The head is a network of its own, and the map is trained as
without it.
"""

from dataclasses import fields, replace
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.flow.divergence import DIVERGENCE, DivergenceHead, Hutchinson
from core.flow.flow_map import FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Method, Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import find_plugin, register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import Declares
from core.objectives.objective import (
    GroupTerm,
    JointTerm,
    Metrics,
    Players,
    Residuals,
    RowKind,
    Term,
)
from core.objectives.row import Row

stop = jax.lax.stop_gradient
PROBE = 0xD1F
"""What a row's key is folded with for the probe: the map's own term uses the key itself."""
Rule = Literal["lagrangian", "compositional"]


def estimate(
    field: FlowMap, x: Float[Array, "*shape"], t: Float[Array, ""], row: Row
) -> Float[Array, ""]:
    """`h(x, t)`: Hutchinson's estimate of the divergence with the row's probe, over the size."""
    divergence, key = Hutchinson(), jr.fold_in(row.key, PROBE)
    probe = divergence.probe(x, key)
    return divergence(lambda y: field.velocity(y, t, row.cond), x, probe)[1] / x.size


class WithDivergence(JointTerm):
    """The residuals of a term, and beside them that of the head.

    Source: arXiv 2512.02636, eqs. 11 to 14, with the head in units of `size`.
    """

    term: JointTerm
    rule: Rule = eqx.field(static=True, default="lagrangian")

    @property
    def declares(self) -> Declares:
        return self.term.declares

    def residuals(self, players: Players, target: Players, row: Row) -> dict[str, Residuals]:
        return self.observed(players, target, row)[0]

    def observed(
        self, players: Players, target: Players, row: Row
    ) -> tuple[dict[str, Residuals], Metrics]:
        found, seen = self.term.observed(players, target, row)
        made = self.of_head(players[DIVERGENCE], target["model"], row)
        return found | {DIVERGENCE: (made,)}, seen | {"divergence": made**2}

    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        return self.term.declared(live, fixed, target, row)

    def declared_of(
        self, name: str, live: Players, fixed: Players, target: Players, row: Row
    ) -> Residuals | None:
        if name != DIVERGENCE:
            return None
        numbers = self.of_head(fixed[name], target["model"], row)
        times = row.s, row.s if self.term.diagonal else row.t
        now, then = (one[name](row.x_s, *times, row.cond) for one in (live, fixed))
        return (now + numbers - then,)

    def of_head(self, head: DivergenceHead, field: FlowMap, row: Row) -> Float[Array, ""]:
        """The residual of the head, a number in units of `size`."""
        x, s, t, cond = row.x_s, row.s, row.t, row.cond
        if self.term.diagonal:
            return head(x, s, s, cond) - stop(estimate(field, x, s, row))
        if self.rule == "compositional":
            g = jr.uniform(jr.fold_in(row.key, PROBE), (), s.dtype)
            u = g * s + (1 - g) * t
            first, second = head(x, s, u, cond), head(field(x, s, u, cond), u, t, cond)
            return head(x, s, t, cond) - stop((1 - g) * first + g * second)
        D, dD = jax.jvp(lambda t: head(x, s, t, cond), (t,), (jnp.ones_like(t),))
        end = field(x, s, t, cond)
        return D + stop((t - s) * dD - estimate(field, end, t, row))


@register
class F2D2(RowPlugin):
    """F2D2 (arXiv 2512.02636): a self-distilled map with a head for its log-determinant."""

    card = Card(
        "f2d2",
        rule="Lagrangian, and of the divergence",
        supervision="own diagonal",
        source="arXiv 2512.02636",
        cost=8.75,
        whole_cost=21,
        gradient="dF/dt",
        family="Lagrangian",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.173, 0.175, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.419, 0.298, "recipes-digits"),
    )  # fmt: skip
    guidable: ClassVar[bool] = False
    both_ways: ClassVar[bool] = True

    diagonal: float = by_kind(0.75, points=0.5, small_image=0.5)
    uniform: float = by_kind(1.0, small_image=0.3)
    both: float = 0.5
    base: Literal["lsd", "psd", "esd", "mf"] = "lsd"
    """The method that trains the map; the flags that they share are taken from here."""
    rule: Rule = "lagrangian"
    """The rule of the head: lagrangian, by the derivative in the target time, or compositional."""

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
        head = DivergenceHead(jax.tree.map(jnp.copy, net), gaussian(path))
        return replace(made, players={**made.players, DIVERGENCE: head})

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        kinds = self.based.kinds(None, task)
        return tuple(replace(kind, term=self._beside(kind)) for kind in kinds)

    def jump(self, teacher: None) -> Term | GroupTerm:
        return self.based.jump(None)

    @property
    def based(self) -> RowPlugin:
        """The method of the map, with the flags that all have."""
        plugin = find_plugin(self.base)
        assert issubclass(plugin, RowPlugin)
        shared = {one.name: getattr(self, one.name) for one in fields(RowPlugin)}
        return replace(plugin.preset("points"), **shared)

    def _beside(self, kind: RowKind) -> WithDivergence:
        assert isinstance(kind.term, JointTerm)
        return WithDivergence(kind.term, self.rule)
