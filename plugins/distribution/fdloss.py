"""The Frechet distance as a loss: the features of samples get the moments of those of the data.

    FD = |m - m_r|^2 + tr(S + S_r - 2 (S_r^(1/2) S S_r^(1/2))^(1/2))
    L  = FD / (sg FD + 0.01) + w FC / (sg FC + 0.01)

`m, S` are moments of features of a large population of samples, kept by an EMA; the gradient passes
through the current samples alone. `FC` compares the means of each class.
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
from core.methods.plugin import Method, Plugin, Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.nets.perception import Identity, Perception
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Batch, Metrics, Objective, Players
from core.objectives.one_step import OneStep
from core.train.features import open_perception
from plugins.distribution.anchor import Anchor
from plugins.distribution.frechet import Moments, centre_distance, frechet, mixed
from plugins.distribution.plugin import DistributionPlugin

stop = jax.lax.stop_gradient
OFFSET = 0.01
"""The constant that is added to the stopped distance in the denominator, so that the loss fades at
the goal."""


class Populations(eqx.Module):
    """Moments of the samples and of the data, and the number of batches in them."""

    samples: Moments
    data: Moments
    count: Int[Array, ""]


class MatchMoments(Objective):
    """The Frechet loss at the moments of the population before this step.

        M = M_population + (M_batch(x) - sg M_batch(x))

    So the point at which FD is differentiated is independent of the current samples, and on
    average the gradient is that of FD there; with the batch's own moments in it samples would
    shrink towards their mean by O(1 / n). The samples' moments are a running mean until that has
    the weight `1 - decay`, then an EMA; the data's are a running mean over all batches. In the
    first `wait` steps, at least one, they fill and nothing is trained.

    Features are those of `perception`. The paper puts the current samples into the population and
    keeps its reference's moments from a file.
    """

    generate: OneStep
    anchor: Anchor
    shape: tuple[int, ...] = eqx.field(static=True)
    perception: Perception = Identity()
    decay: float = 0.99
    classes: float = eqx.field(static=True, default=0.0)
    wait: int = eqx.field(static=True, default=1)

    def init(self, players: Players) -> Any:
        dim = jax.eval_shape(self.perception.vector, jnp.zeros(self.shape)).size
        zero = [Moments.zero(dim, self.generate.num_classes) for _ in range(2)]
        empty = Populations(*zero, count=jnp.zeros((), jnp.int32))
        return empty, self.anchor.init(players["model"])

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
        (past, start), model = carry, players["model"]
        starts = self.generate.starts(batch, key)
        x = self.generate(model, starts)
        new, real = (self.moments(values, starts.label) for values in (x, batch.x_0))
        here = jax.tree.map(lambda old, now: stop(old) + (now - stop(now)), past.samples, new)
        loss, metrics = self.loss(here, past.data)
        anchored = self.anchor(model, start, starts, x)
        ready = (step >= self.wait) & (past.count > 0)
        metrics["anchor"] = anchored
        return {"model": ready * (loss + anchored)}, (self.after(past, new, real), start), metrics

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
        (past, start), starts = carry, self.generate.starts(batch, key)
        x, still = (self.generate(players["model"], starts) for players in (live, fixed))
        new, old = (self.moments(values, starts.label) for values in (x, still))
        here = jax.tree.map(lambda a, now, then: a + now - then, past.samples, new, old)
        distances = [frechet(moments, past.data) for moments in (here, past.samples)]
        loss = distances[0] / (distances[1] + OFFSET)
        if self.classes:
            centres = [centre_distance(moments, past.data) for moments in (here, past.samples)]
            loss += self.classes * centres[0] / (centres[1] + OFFSET)
        loss += self.anchor(live["model"], start, starts, x)
        return {"model": jnp.where((step >= self.wait) & (past.count > 0), loss, 0.0)}

    def moments(self, x: Float[Array, " n *shape"], label: Int[Array, " n"] | None) -> Moments:
        """The moments of the features of these examples."""
        features = jax.vmap(frozen(self.perception).vector)(x)
        return Moments.of(features, label, self.generate.num_classes)

    def loss(self, here: Moments, data: Moments) -> tuple[Float[Array, ""], Metrics]:
        """The normalised distances of the two, and the distances themselves."""
        distance = frechet(here, data)
        loss, metrics = distance / (stop(distance) + OFFSET), {"loss": distance}
        if self.classes:
            centres = centre_distance(here, data)
            loss += self.classes * centres / (stop(centres) + OFFSET)
            metrics["classes"] = centres
        return loss, metrics

    def after(self, past: Populations, new: Moments, real: Moments) -> Populations:
        """The populations with one more batch."""
        even = 1.0 / (past.count + 1)
        samples = mixed(past.samples, new, jnp.maximum(even, 1 - self.decay))
        return stop(Populations(samples, mixed(past.data, real, even), past.count + 1))


@register
class FDLoss(DistributionPlugin):
    """FD-loss (Yang et al., "Representation Frechet Loss for Visual Generation", 2026)."""

    card = Card(
        "fdloss",
        rule="none (distributions of samples)",
        supervision="moments of the data",
        source="Yang et al., 2026",
        cost=3,
        whole_cost=3,
        parameterisation="F(z, 1, 0)",
        gradient="F(z, 1, 0)",
    )
    recipes = (
        Recipe("small-image", "digits", 287, 0.156, None, "tuned-digits"),
    )  # fmt: skip

    decay: float = 0.9
    """Decay of the moments of the samples; the population is about batch / (1 - decay). Slower
    needs a lower rate: the moments of past maps are not those of the map."""
    classes: float = 0.0
    """Weight of the distance of the means of each class. Needs labels."""
    features: str = "identity"
    """Features whose moments are compared: the values themselves, a run folder of
    apps.features, or a trained network: efficientnet-lite0, inception=FILE, dinov2=FILE."""

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.decay < 1, f"--plugin.decay must be in [0, 1), got {self.decay}")
        require(self.classes >= 0, f"--plugin.classes must not be negative, got {self.classes}")

    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        del teacher, key
        require(not self.classes or task.num_classes > 0, "--plugin.classes needs labels")
        objective = MatchMoments(
            self.generator(path, task),
            self.anchored(path, task),
            task.shape,
            open_perception(self.features, task.shape),
            self.decay,
            self.classes,
            self.waiting(task),
        )
        return Method(self.flow_map(net, path), objective)

    @classmethod
    def variants(cls) -> dict[str, Plugin]:
        """The map trains from the second step on."""
        return {"": dataclasses.replace(cls.preset("points"), wait=0.0)}
