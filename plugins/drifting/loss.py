"""The loss of a drifting model: samples are pulled to where their drift points.

    L = E |x / c - sg[x / c + sum_tau V_tau / rms(V_tau)]|^2

`c` brings the mean distance to `sqrt(dim)`. Each field is scaled to unit size, so the loss hardly
changes during training: look at the energies `rms(V_tau)^2`, which fall.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from core.objective import Batch, Metrics, Objective, Players
from core.one_step import OneStep
from core.path import Path
from plugins.drifting.field import distances, joint_field

stop = jax.lax.stop_gradient


class DriftObjective(Objective):
    """One sample is generated for each example of the batch, with its label.

    Positives are the examples of the same class, negatives the other samples of that class and,
    for `guidance` above 1, the examples of all classes: these with the weight at which the samples'
    law becomes `guidance p(x | c) - (guidance - 1) p(x)`. Source: drifting models, sections 3 and
    A.6-A.7, with the data themselves for features.
    """

    path: Path
    temperatures: tuple[float, ...] = eqx.field(static=True, default=(0.02, 0.05, 0.2))
    guidance: float = eqx.field(static=True, default=1.0)
    num_classes: int = eqx.field(static=True, default=0)

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
        label = batch.label if self.num_classes else None
        generate = OneStep(self.path, self.num_classes)
        x = generate(players["model"], generate.starts(batch, key))
        flat, data = (a.reshape(len(x), -1) for a in (x, batch.x_0))
        loss, metrics = self.loss(flat, data, label)
        return {"model": loss}, carry, {"loss": loss, **metrics}

    def loss(
        self, x: Float[Array, "n dim"], data: Float[Array, "n dim"], label: Int[Array, " n"] | None
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss of flat samples against flat data in the same order of labels."""
        here = stop(x)
        targets, is_positive, weight = self._targets(here, data, label)
        distance = distances(here, targets)
        spread = jnp.sum(distance * weight) / jnp.sum(weight)
        scale = jnp.maximum(spread / x.shape[1] ** 0.5, 1e-3)
        drift, metrics = jnp.zeros_like(here), {"spread": spread}
        for temperature in self.temperatures:
            field = joint_field(
                distance / spread, targets / scale, is_positive, weight, temperature
            )
            energy = jnp.mean(field**2)
            drift += field / jnp.sqrt(jnp.maximum(energy, 1e-8))
            metrics[f"energy/{temperature:g}"] = energy
        return jnp.mean((x / scale - (here / scale + drift)) ** 2), metrics

    def _targets(
        self, x: Float[Array, "n dim"], data: Float[Array, "n dim"], label: Int[Array, " n"] | None
    ) -> tuple[Float[Array, "m dim"], Array, Float[Array, "n m"]]:
        """All targets, which of them attract, and the weight of each for each sample."""
        n = len(x)
        same = jnp.ones((n, n)) if label is None else (label[:, None] == label[None, :]) * 1.0
        others = same * (1 - jnp.eye(n))
        targets, weights = [x, data], [others, same]
        if self.guidance > 1:
            crowd = jnp.maximum(jnp.sum(others, axis=1, keepdims=True), 1.0)
            targets, weights = [*targets, data], [*weights, (self.guidance - 1) * crowd / n]
            weights[-1] = jnp.broadcast_to(weights[-1], (n, n))
        is_positive = jnp.repeat(jnp.arange(len(targets)) == 1, n)
        return jnp.concatenate(targets), is_positive, jnp.concatenate(weights, axis=1)
