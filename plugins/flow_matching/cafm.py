"""Continuous adversarial flow: a discriminator tells the map's velocity from that of the data.

    j(v)  = d/dt D(x_t, t) along (v, 1) = dD/dt + grad D . v
    L_D   = E (j(v) - 1)^2 + E (j(u) + 1)^2 + c E D(x_t, t)^2,      u = v(x_t, t) of the map
    L     = E (j(u) - 1)^2 + r E mean|u|^2

`v` is the sampled pair's velocity. `D` enters by its derivative alone, which is linear in the
velocity: of the marginal velocity both means of `j` are the same whatever `D`, so that a constant
`D` is at rest beside it, as in flow matching. Away from it the network's errors are not weighed
by a square but by what the discriminator sees. It trains the diagonal, sampled by an ODE solver.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.errors import require
from core.flow.flow_map import FORMS, FlowMap, Form, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Teacher, frozen
from core.methods.card import Card
from core.methods.plugin import Method, Plugin, Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.nets.discriminator import Discriminator, discriminator
from core.nets.dropout import has_dropout, with_masks
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Batch, FlowMatching, Metrics, Objective, Players, RowKind
from core.objectives.row import Row
from core.objectives.rows import RowObjective
from core.times.distributions import Uniform
from core.times.pairs import Diagonal

stop = jax.lax.stop_gradient
MASK = 0x6D61736B
"""What a row's key is folded with for dropout."""


def along(
    net: Discriminator, path: Interpolant, row: Row, v: Float[Array, "*shape"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`D(x_t, t)` and its derivative along `(v, 1)`, at the state and label of the row. `D` reads
    the unit time as one more number on the last axis."""

    def D(x: Array, t: Array) -> Array:
        unit = jnp.broadcast_to(path.unit_time(t), (*x.shape[:-1], 1)).astype(x.dtype)
        label = None if row.cond is None else row.cond.label
        return net(jnp.concatenate([x, unit], axis=-1), label)

    return jax.jvp(D, (row.x_s, row.s), (v, jnp.ones_like(row.s)))


class Duel(Objective):
    """The least squares of the map and of the player "discriminator", in one step.

    The map has a gradient in the last of every `every` steps, from step `wait` on. Source: CAFM
    (arXiv 2604.11521), its authors' code: `center` 0.001, `every` 17, `transport` 0.
    """

    rows: RowObjective
    center: float = eqx.field(static=True, default=1e-3)
    transport: float = eqx.field(static=True, default=0.0)
    every: int = eqx.field(static=True, default=1)
    wait: int = eqx.field(static=True, default=0)

    def __call__(
        self,
        players: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[dict[str, Float[Array, ""]], Any, Metrics]:
        del target
        (kind,) = self.rows.kinds
        rows = self.rows.rows(kind, batch, key, step)
        seen = jax.vmap(lambda row: self.of_row(players["model"], players["discriminator"], row))
        fooled, game = (jnp.mean(each) for each in seen(rows))
        active = (step >= self.wait) & (step % self.every == self.every - 1)
        losses = {"model": active * fooled, "discriminator": game}
        return losses, carry, {"loss": game, "generator": fooled}

    def of_row(
        self, model: FlowMap, net: Discriminator, row: Row
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The losses of the map and of the discriminator on one example."""
        masked = with_masks(model, jr.fold_in(row.key, MASK)) if has_dropout(model) else model
        u, path = masked.velocity(row.x_s, row.s, row.cond), self.rows.path
        level, real = along(net, path, row, row.v)
        _, fake = along(net, path, row, stop(u))
        _, seen = along(frozen(net), path, row, u)
        game = (real - 1) ** 2 + (fake + 1) ** 2 + self.center * level**2
        return (seen - 1) ** 2 + self.transport * jnp.mean(u**2), game

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("v"),), ("discriminator",))


@register
class CAFM(Plugin):
    """Continuous adversarial flow (arXiv 2604.11521): a velocity from data and a discriminator.

    Made for velocities that flow matching has trained: give one by --init. A game of two networks
    has no loss that falls: look at the samples.
    """

    card = Card(
        "cafm",
        rule="diagonal",
        supervision="sampled pair, discriminator",
        source="arXiv 2604.11521",
        cost=4,
        whole_cost=4,
        gradient="v",
        targets="discriminator",
    )
    recipes = (
        Recipe("small-image", "digits", 287, 5.52, 0.657, "tuned-velocity-digits"),
    )  # fmt: skip
    sampler = "euler"
    tunes = True

    form: Form = "average"
    """The network's output: that of the run that --init names."""
    wait: float = 0.1
    """Fraction of the training in which the discriminator learns alone."""
    every: int = 10
    """Steps of the discriminator for one of the map."""
    center: float = 1e-3
    """Weight c of the discriminator's square, which keeps it near 0."""
    transport: float = 0.0
    """Weight r of the velocity's mean square, for training from nothing."""
    rate: float = 10.0
    """Learning rate of the discriminator, in units of the map's."""
    width: int = 64
    """Width of the discriminator."""
    label_drop: float = by_kind(0.1, small_image=0.0)
    """Probability with which a label is replaced by the null class."""

    def __post_init__(self):
        require(0 <= self.wait < 1, f"--plugin.wait must be in [0, 1), got {self.wait}")
        require(0 <= self.label_drop <= 1, "--plugin.label-drop must be in [0, 1]")
        for name, least in {"every": 1, "width": 1, "center": 0, "transport": 0}.items():
            value = getattr(self, name)
            require(value >= least, f"--plugin.{name} must be at least {least}, got {value}")
        require(self.rate > 0, f"--plugin.rate must be positive, got {self.rate}")

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        return FORMS[self.form](net=net, path=gaussian(path))

    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        del teacher
        kind = RowKind("pair", 1.0, Diagonal(Uniform()), FlowMatching())
        rows = RowObjective(path, (kind,), task.num_classes, self.label_drop, task.steps)
        waiting = round(self.wait * task.steps)
        duel = Duel(rows, self.center, self.transport, self.every, waiting)
        shape = (*task.shape[:-1], task.shape[-1] + 1)
        player = discriminator(shape, task.num_classes, self.width, key=key)
        players, rates = {"discriminator": player}, {"discriminator": self.rate}
        return Method(self.flow_map(net, path), duel, players, rates, self.sampler)

    @classmethod
    def variants(cls):
        """The map trains in every step, from the first on."""
        return {"": dataclasses.replace(cls.preset("points"), wait=0.0, every=1)}
