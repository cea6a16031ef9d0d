"""Games of a one-step map and a second velocity field, the fake, that learns its samples.

    x = F(z, 1, 0),      x_tau = alpha x + sigma z',
    L_f = E |v_f(x_tau, tau) - v|^2 + b |v_f(x_tau, tau) - v_r(x_tau, tau)|^2

`v_r` is the frozen teacher's velocity. What the map learns from the two fields is each method's
own.
"""

import abc
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.errors import require
from core.flow.conversions import convert
from core.flow.field import VelocityField
from core.flow.flow_map import FORMS, AverageVelocityMap, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Autoguided, Guided, MapTeacher, Nearest, Teacher, frozen
from core.methods.plugin import Method, Task
from core.methods.presets import by_kind
from core.methods.row_plugin import needed
from core.methods.warm_start import warm_started
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Batch, Metrics, Objective, Players
from core.objectives.one_step import OneStep, Starts, condition
from core.times.distributions import Uniform
from plugins.distribution.anchor import Anchor
from plugins.distribution.plugin import DistributionPlugin

Noised = tuple[Float[Array, " n *shape"], Float[Array, " n"], Float[Array, " n *shape"]]
"""Samples with noise, the path times `tau`, the conditional velocities."""

stop = jax.lax.stop_gradient


class Game(Objective):
    """Two players in one program; `pull` is the map's loss.

    The fake is trained in every step, the map in the last of every `every` steps, beginning with
    step `wait`: for each gradient of the map the fake sees `every` of its own. In between the map
    has no gradient and is neither differentiated nor taught (`jax.lax.cond`); its optimiser's
    momentum spreads one gradient over the steps until the next. Both players look at the same
    samples and noise levels `tau`, so that one evaluation of the fake serves both.

    Only the denoisers receive `tau`; the map does not. Guidance is the teacher's alone. A `tether`
    adds `tether |v_f - v_r|^2` to the fake's loss, which holds it near the teacher.
    """

    generate: OneStep
    teacher: Teacher
    anchor: Anchor
    levels: Uniform
    every: int = eqx.field(static=True, default=5)
    wait: int = eqx.field(static=True, default=0)
    normalise: bool = eqx.field(static=True, default=True)
    tether: float = eqx.field(static=True, default=0.0)

    def init(self, players: Players) -> Any:
        return self.anchor.init(players["model"])

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
        key_start, key_noise = jr.split(key)
        model, starts = players["model"], self.generate.starts(batch, key_start)
        active = (step >= self.wait) & (step % self.every == self.every - 1)
        x = jax.lax.cond(
            active,
            lambda: self.generate(model, starts),
            lambda: self.generate(frozen(model), starts),
        )
        noised = self.noised(stop(x), key_noise)
        x_tau, tau, v = noised
        v_fake = velocities(players["fake"], x_tau, tau, starts.label)
        fake, v_held = jnp.mean((v_fake - v) ** 2), None
        if self.tether:
            v_held = stop(velocities(self.teacher, x_tau, tau, starts.label))
            fake += self.tether * jnp.mean((v_fake - v_held) ** 2)

        def push() -> tuple[Array, Array]:
            loss, size = self.pull(x, noised, starts, players["fake"], (stop(v_fake), v_held))
            return loss + self.anchor(model, carry, starts, x), size

        nothing = jnp.zeros((), x.dtype)
        loss, size = jax.lax.cond(active, push, lambda: (nothing, nothing))
        metrics = {"loss": fake, "generator": self.every * loss, "delta": self.every * size}
        return {"model": loss, "fake": fake}, carry, metrics

    @abc.abstractmethod
    def pull(
        self,
        x: Float[Array, " n *shape"],
        noised: Noised,
        starts: Starts,
        fake: VelocityField,
        known: tuple[Array, Array | None],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The map's loss on its samples `x`, and the mean square of the push that is logged.

        `known` has the velocities of the fake and, where they were needed before, of the teacher,
        both at the noised samples and without a gradient.
        """

    @abc.abstractmethod
    def declared_pull(
        self, moving: Array, x: Array, drawn: tuple[Array, Array], starts: Starts, fake: FlowMap
    ) -> Float[Array, ""]:
        """The same from samples that move, the same as numbers, and noise and levels drawn."""

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("F(z, 1, 0)"),), ("teacher", "current", "fake"))

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
        """The two losses with the players that move and those that do not apart."""
        key_start, key_noise = jr.split(key)
        starts, path = self.generate.starts(batch, key_start), self.generate.path
        moving, x = (self.generate(players["model"], starts) for players in (live, fixed))
        z, tau = self.drawn(x, key_noise)
        due = (step >= self.wait) & ((step + 1) % self.every == 0)
        pull = self.declared_pull(moving, x, (z, tau), starts, fixed["fake"])
        pull += self.anchor(live["model"], carry, starts, moving)
        x_tau = jax.vmap(path.interpolate)(x, z, tau)
        fake = velocities(live["fake"], x_tau, tau, starts.label)
        own = jnp.mean((fake - jax.vmap(path.conditional_velocity)(x, z, tau)) ** 2)
        if self.tether:
            held = velocities(self.teacher, x_tau, tau, starts.label)
            own += self.tether * jnp.mean((held - fake) ** 2)
        return {"model": jnp.where(due, pull, 0.0), "fake": own}

    def noised(self, x: Float[Array, " n *shape"], key: Key[Array, ""]) -> Noised:
        """`(x_tau, tau, v)`: the samples with noise, the path times, the conditional velocities."""
        z, tau = self.drawn(x, key)
        path = self.generate.path
        v = jax.vmap(path.conditional_velocity)(x, z, tau)
        return jax.vmap(path.interpolate)(x, z, tau), tau, v

    def drawn(
        self, x: Float[Array, " n *shape"], key: Key[Array, ""]
    ) -> tuple[Float[Array, " n *shape"], Float[Array, " n"]]:
        """Noise for each sample, and the path time of each."""
        path, n = self.generate.path, len(x)
        key_tau, key_noise = jr.split(key)
        tau = jax.vmap(path.time_of_unit)(self.levels.sample(key_tau, n))
        return jax.vmap(lambda k: path.noise(k, x.shape[1:]))(jr.split(key_noise, n)), tau


def velocities(
    field: VelocityField,
    x: Float[Array, " n *shape"],
    t: Float[Array, " n"],
    label: Int[Array, " n"] | None,
) -> Float[Array, " n *shape"]:
    """The velocities of a map or a teacher at these states and path times, with their labels."""
    return jax.vmap(lambda x, t, label: field.velocity(x, t, condition(label)))(x, t, label)


def denoised(
    path: Interpolant,
    field: VelocityField,
    x: Float[Array, " n *shape"],
    t: Float[Array, " n"],
    label: Int[Array, " n"] | None,
) -> Float[Array, " n *shape"]:
    """The denoised means `E[x_0 | x_t]` that these velocities imply."""
    return clean(path, velocities(field, x, t, label), x, t)


def clean(
    path: Interpolant,
    v: Float[Array, " n *shape"],
    x: Float[Array, " n *shape"],
    t: Float[Array, " n"],
) -> Float[Array, " n *shape"]:
    """The same of velocities that are known."""
    kinds = {"source": "velocity", "target": "x_0"}
    return jax.vmap(lambda *row: convert(gaussian(path), *row, **kinds))(v, x, t)


def over(numbers: Float[Array, " n"], like: Float[Array, " n *shape"]) -> Float[Array, " n *ones"]:
    """One number a sample, to be multiplied with samples."""
    return numbers.reshape(-1, *[1] * (like.ndim - 1))


def each(values: Float[Array, " n *shape"]) -> Float[Array, " n"]:
    """The mean over the dimensions of each sample."""
    return jnp.mean(values.reshape(len(values), -1), axis=1)


def fake_of(teacher: Teacher, net: Network, path: Interpolant) -> FlowMap:
    """The second velocity field: the teacher's weights, without its guidance, where it is a run of
    the same network in whatever form; else that network as it is."""
    field: VelocityField = teacher
    while isinstance(field, Guided | Autoguided | Nearest):
        field = field.strong if isinstance(field, Autoguided) else field.field
    net = jax.tree.map(lambda leaf: jnp.copy(leaf) if eqx.is_array(leaf) else leaf, net)
    if isinstance(field, MapTeacher):
        for form in FORMS.values():
            found = warm_started(field.flow_map, form(net=net, path=gaussian(path)))
            if found is not None:
                return found
    return AverageVelocityMap(net=net, path=path)


@dataclass(frozen=True)
class FakePlugin(DistributionPlugin):
    """A method that trains the denoiser of its own samples, the fake, beside the map."""

    needs_teacher = True

    wait: float = by_kind(0.1, points=0.3)
    every: int = 5
    """Steps of the fake for one of the map."""
    rate: float = by_kind(4.0, points=50.0)
    """Learning rate of the fake, in units of the map's."""
    levels: tuple[float, float] = (0.02, 0.98)
    """Least and greatest noise level at which the two distributions are compared, in unit time."""

    def __post_init__(self):
        super().__post_init__()
        require(self.every >= 1, f"--plugin.every must be at least 1, got {self.every}")
        require(self.rate > 0, f"--plugin.rate must be positive, got {self.rate}")
        low, high = self.levels
        require(0 < low < high <= 1, f"--plugin.levels must rise inside (0, 1], got {low} {high}")

    def rules(self, path: Interpolant, task: Task, teacher: Teacher) -> dict[str, Any]:
        """What all games take from the flags: samples, teacher, noise levels and turns."""
        return {
            "generate": self.generator(path, task),
            "teacher": teacher,
            "levels": Uniform(*self.levels),
            "every": self.every,
            "wait": self.waiting(task),
        }

    @abc.abstractmethod
    def game(self, path: Interpolant, task: Task, teacher: Teacher) -> Game:
        """The objective of both players."""

    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        del key
        teacher = needed(teacher, self.card.name)
        players, rates = {"fake": fake_of(teacher, net, path)}, {"fake": self.rate}
        return Method(self.flow_map(net, path), self.game(path, task, teacher), players, rates)
