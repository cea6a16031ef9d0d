"""The anchor: samples stay near those that the map made where training began.

    A = E |F(x_s, s, 0) - sg[F_start(x_s, s, 0)]|^2

on the same noise. It keeps the coupling of noise and sample, and with it the variety of samples.
Through a perception it is the distance of `core.objectives.perceptual`, as in DMD (arXiv
2311.18828), eq. 9, whose regression takes LPIPS.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.adapters import parts, trained
from core.flow.teacher import frozen
from core.nets.perception import Identity, Perception
from core.objectives.one_step import OneStep, Starts
from core.objectives.perceptual import seen


class Anchor(eqx.Module):
    """`weight` times the anchor. With weight 0 nothing is kept and nothing computed.

    The start is part of the objective's carry, a copy of the map's weights before the first step,
    whatever gave them: --init, a teacher or the seed. So a resumed run has the same start.
    """

    weight: float = eqx.field(static=True)
    generate: OneStep
    perception: Perception = Identity()

    def init(self, model: Any) -> Any:
        """The start: a copy of the arrays of the map that are trained, or None."""
        if not self.weight:
            return None
        return jax.tree.map(jnp.copy, parts(model))

    def __call__(
        self, model: Any, start: Any, starts: Starts, x: Float[Array, " n *shape"]
    ) -> Float[Array, ""]:
        """The loss of the samples `x` that the map made from these starts; a mean over all."""
        if not self.weight:
            return jnp.zeros((), x.dtype)
        still = eqx.filter(model, trained(model), inverse=True)
        there = self.generate(frozen(eqx.combine(start, still)), starts)
        if isinstance(self.perception, Identity):
            return self.weight * jnp.mean((x - jax.lax.stop_gradient(there)) ** 2)
        look = jax.vmap(lambda one: seen(self.perception, one))
        apart = look(x) - jax.lax.stop_gradient(look(there))
        return self.weight * jnp.sum(apart**2) / len(x)
