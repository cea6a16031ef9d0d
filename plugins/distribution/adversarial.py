"""Adversarial fine-tuning: a discriminator separates samples from data, and the map learns from it.

    L   = -E D(x) + a E |x - sg[F_start(z, 1, 0)]|^2,       x = F(z, 1, 0)
    L_D = E (1 - D(x_0))_+ + E (1 + D(x))_+ + r / 2 E |grad D(x_0)|^2

The discriminator reads the examples themselves or perceptual features of them.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from core.errors import require
from core.flow.flow_map import Network
from core.flow.interpolant import Interpolant
from core.flow.teacher import Teacher, frozen
from core.methods.card import Card
from core.methods.plugin import Method, Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.nets.discriminator import discriminator
from core.nets.perception import Perception
from core.objectives.adversarial import discriminator_loss, generator_loss
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Batch, Metrics, Objective, Players
from core.objectives.one_step import OneStep
from core.train.features import open_perception
from plugins.distribution.anchor import Anchor
from plugins.distribution.plugin import DistributionPlugin


class Game(Objective):
    """The hinge losses of the map and of the player "discriminator", in one step.

    Before step `wait` the discriminator learns alone. `perception` turns examples into the vectors
    that it reads; without one it reads the examples, an image as an image. The anchor holds the
    map; a small discriminator alone lets it forget all else.
    """

    generate: OneStep
    anchor: Anchor
    perception: Perception | None = None
    strength: float = 1.0
    penalty: float = eqx.field(static=True, default=0.0)
    wait: int = eqx.field(static=True, default=0)

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
        model, net = players["model"], players["discriminator"]
        starts = self.generate.starts(batch, key)
        x = self.generate(model, starts)
        fake, real = self.inputs(x), self.inputs(batch.x_0)
        fooled = jnp.mean(generator_loss(net, fake, starts.label))
        game = jnp.mean(discriminator_loss(net, real, fake, starts.label, self.penalty))
        anchored = self.anchor(model, carry, starts, x)
        loss = (step >= self.wait) * (self.strength * fooled + anchored)
        metrics = {"loss": game, "generator": fooled, "anchor": anchored}
        return {"model": loss, "discriminator": game}, carry, metrics

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("F(z, 1, 0)"),), ("discriminator",))

    def inputs(self, x: Float[Array, " n *shape"]) -> Float[Array, "n ..."]:
        """The inputs of the discriminator for these examples."""
        return x if self.perception is None else jax.vmap(frozen(self.perception).vector)(x)


@register
class Adversarial(DistributionPlugin):
    """Adversarial fine-tuning of a trained map, with a discriminator of its own."""

    card = Card(
        "adversarial",
        rule="none (distributions of samples)",
        supervision="data, discriminator",
        source="arXiv 2311.17042, 1705.02894, 1801.04406",
        cost=4.4,
        whole_cost=4.4,
        parameterisation="F(z, 1, 0)",
        gradient="F(z, 1, 0)",
        targets="discriminator",
    )
    recipes = (
        Recipe("small-image", "digits", 287, 0.233, None, "tuned-digits"),
    )  # fmt: skip

    wait: float = 0.3
    """Fraction of the training in which the discriminator learns alone."""
    anchor: float = 1.0
    """Weight of the squared distance to the samples of the map that training began with."""
    strength: float = 0.1
    """Weight of the adversarial loss."""
    rate: float = 30.0
    """Learning rate of the discriminator, in units of the map's."""
    penalty: float = 0.1
    """Weight r of the discriminator's squared gradient at real examples (R1)."""
    width: int = 64
    """Width of the discriminator."""
    features: str = "identity"
    """Input of the discriminator: the examples themselves, a run folder of apps.features, or a
    trained network: efficientnet-lite0, inception=FILE, dinov2=FILE."""

    def __post_init__(self):
        super().__post_init__()
        require(self.penalty >= 0, f"--plugin.penalty must not be negative, got {self.penalty}")
        require(self.rate > 0, f"--plugin.rate must be positive, got {self.rate}")
        require(self.width >= 1, f"--plugin.width must be at least 1, got {self.width}")

    def perception(self, task: Task) -> Perception | None:
        """The features that the discriminator uses; None for the examples themselves."""
        plain = self.features == "identity"
        return None if plain else open_perception(self.features, task.shape)

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
        perception, shape = self.perception(task), task.shape
        if perception is not None:
            shape = jax.eval_shape(perception.vector, jnp.zeros(shape)).shape
        objective = Game(
            self.generator(path, task),
            self.anchored(path, task),
            perception,
            self.strength,
            self.penalty,
            self.waiting(task),
        )
        players = {"discriminator": discriminator(shape, task.num_classes, self.width, key=key)}
        rates = {"discriminator": self.rate}
        return Method(self.flow_map(net, path), objective, players, rates)

    @classmethod
    def variants(cls):
        """The map trains from the first step on, and there is no anchor: the check is of the
        game. The anchor is zero at the start, whatever the map."""
        return {"": dataclasses.replace(cls.preset("points"), wait=0.0, anchor=0.0)}
