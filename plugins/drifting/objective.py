"""The training step of a drifting model: samples in groups of one class, data from queues."""

from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.nets.perception import Identity, Perception
from core.objectives.carriers import Carrier, Declares
from core.objectives.guidance import power_law
from core.objectives.objective import Batch, Metrics, Objective, Players
from plugins.drifting.declared import declared_loss
from plugins.drifting.field import FieldKernel
from plugins.drifting.loss import FieldPoints, drift_loss
from plugins.drifting.queue import Queue, draw, empty, push

MOST_UNCONDITIONAL = 1000


@dataclass(frozen=True)
class Sizes:
    """Of a group: samples (without labels the whole batch is one group), `positives`,
    `unconditional` examples; and the examples that the `queue` of a class holds."""

    group: int = 32
    positives: int = 64
    unconditional: int = 32
    queue: int = 128


@dataclass(frozen=True)
class Guidance:
    """The guidance scale `alpha`: fixed, or with `kappa` drawn for each group with density
    `alpha^-kappa` on [1, scale], an input of the network."""

    scale: float = 1.0
    kappa: float | None = None

    @property
    def on(self) -> bool:
        """Whether there is any."""
        return self.scale > 1

    def draw(self, n: int, key: Key[Array, ""]) -> Float[Array, " n"]:
        """The scales of `n` groups, by the inverse of the distribution function."""
        if self.kappa is None:
            return jnp.full(n, self.scale)
        return power_law(jr.uniform(key, (n,)), 1.0, self.scale, self.kappa)


class DriftObjective(Objective):
    """As many samples are generated as the batch has examples, in groups of one class and one
    guidance scale; the batch itself goes into the queues.

    The classes of the groups are the labels of the batch's first examples. Positives are drawn from
    the queue of the class, without replacement; negatives are the other samples of the group, and
    with guidance examples of all classes, each with weight `(alpha - 1) (G - 1) / U`: then the
    samples' distribution becomes `alpha p(x | c) - (alpha - 1) p(x)`. Source: drifting models,
    sections 3 and A.6-A.7.
    """

    path: Interpolant
    shape: tuple[int, ...] = eqx.field(static=True)
    num_classes: int = eqx.field(static=True, default=0)
    kernel: FieldKernel = eqx.field(static=True, default=FieldKernel())
    sizes: Sizes = eqx.field(static=True, default=Sizes())
    guidance: Guidance = eqx.field(static=True, default=Guidance())
    perception: Perception = Identity()

    def init(self, players: Players) -> dict[str, Queue]:
        """Empty queues: one a class, and with guidance one of all classes together."""
        del players
        queues = {"classes": empty(max(self.num_classes, 1), self.sizes.queue, self.shape)}
        if self.guidance.on:
            queues["all"] = empty(1, MOST_UNCONDITIONAL, self.shape)
        return queues

    def __call__(
        self,
        players: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[dict[str, Float[Array, ""]], Any, Metrics]:
        del target, step
        key_noise, key_scale, key_points = jr.split(key, 3)
        carry = self.fill(carry, batch)
        groups, size = self.split(len(batch.x_0))
        label = self.labels(batch)[:groups]
        scale = self.guidance.draw(groups, key_scale)
        x = self.generate(players["model"], label, scale, size, key_noise)
        points = self.points(carry, label, scale, size, key_points)
        loss, metrics = drift_loss(x, points, self.kernel, self.perception)
        return {"model": loss}, carry, {"loss": loss, **metrics}

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("F(z, 1, 0)"),))

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
        """Of samples that regress where they drift to, by a sum over pairs of points."""
        key_noise, key_scale, key_points = jr.split(key, 3)
        carry = self.fill(carry, batch)
        groups, size = self.split(len(batch.x_0))
        label, scale = self.labels(batch)[:groups], self.guidance.draw(groups, key_scale)
        given = label, scale, size, key_noise
        moving, still = (self.generate(players["model"], *given) for players in (live, fixed))
        points = self.points(carry, label, scale, size, key_points)
        return {"model": declared_loss(moving, still, points, self.kernel, self.perception)}

    def split(self, n: int) -> tuple[int, int]:
        """The number of groups that `n` samples make, and the size of each."""
        size = min(self.sizes.group, n) if self.num_classes else n
        return n // size, size

    def labels(self, batch: Batch) -> Int[Array, " n"]:
        """The labels of the batch; all 0 where there are none."""
        if not self.num_classes or batch.label is None:
            return jnp.zeros(len(batch.x_0), jnp.int32)
        return batch.label

    def fill(self, queues: dict[str, Queue], batch: Batch) -> dict[str, Queue]:
        """The queues with the batch in them."""
        label = self.labels(batch)
        labels = {"classes": label, "all": jnp.zeros_like(label)}
        return {name: push(queue, batch.x_0, labels[name]) for name, queue in queues.items()}

    def generate(
        self,
        model: Any,
        label: Int[Array, " groups"],
        scale: Float[Array, " groups"],
        size: int,
        key: Key[Array, ""],
    ) -> Float[Array, " groups size *shape"]:
        """Samples in one step from noise."""
        start, end = jnp.asarray(self.path.t_max), jnp.asarray(self.path.t_min)
        conditioned = self.guidance.kappa is not None

        def one(key: Key[Array, ""], label: Array, scale: Array) -> Array:
            guidance = jnp.array([0.0, 0.0, 1.0]).at[0].set(scale) if conditioned else None
            cond = Condition(label, guidance) if self.num_classes else None
            return model(self.path.prior(key, self.shape), start, end, cond)

        keys = jr.split(key, (len(label), size))
        return jax.vmap(jax.vmap(one, (0, None, None)))(keys, label, scale)

    def points(
        self,
        queues: dict[str, Queue],
        label: Int[Array, " groups"],
        scale: Float[Array, " groups"],
        size: int,
        key: Key[Array, ""],
    ) -> FieldPoints:
        """The points that act on the samples of each group beside themselves: examples of all
        classes where there is guidance, then positives."""
        key_positive, key_all = jr.split(key)
        positive, there = draw(queues["classes"], label, self.sizes.positives, key_positive)
        examples, weights = [positive], [there * 1.0]
        if self.guidance.on:
            crowd, found = draw(
                queues["all"], jnp.zeros_like(label), self.sizes.unconditional, key_all
            )
            each = (scale - 1) * (size - 1) / jnp.sum(found, axis=1)
            examples, weights = [crowd, *examples], [found * each[:, None], *weights]
        attracts = jnp.arange(sum(x.shape[1] for x in examples))
        attracts = attracts >= attracts.size - self.sizes.positives
        return FieldPoints(jnp.concatenate(examples, 1), attracts, jnp.concatenate(weights, 1))
