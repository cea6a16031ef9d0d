"""Feynman-Kac steering: no gradient, potentials of the rewards on the way.

With `r_t = r(L(x_t, t))` of the look-ahead, the product of the potentials `G` over all steps is
`exp(lambda r(x_0))`:

    diff  G_u = exp(lambda (r_u - r_t))            it telescopes
    max   G_u = exp(lambda max of r so far)        the last one makes up for the rest
    sum   G_u = exp(lambda sum of r so far)        the last one makes up for the rest

The latter two favour particles that were promising once. See `plugins.steering.sequential`.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import pick
from core.steering.look import look_ahead
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Need,
    Tilt,
    register_steering,
)
from plugins.steering.sequential import Looking, Particle

POTENTIALS = {"diff": None, "max": jnp.maximum, "sum": jnp.add}
"""How the rewards so far are put together; `diff` keeps the last alone."""


@register_steering
@dataclass(frozen=True)
class FK(Looking):
    """Feynman-Kac steering: particles weighted by look-ahead rewards; no gradient."""

    name: ClassVar[str] = "fk"
    source: ClassVar[str] = "arXiv 2501.06848"

    potential: str = "diff"
    """diff (the gain in reward), max (the best so far) or sum (of all so far)."""

    def __post_init__(self):
        super().__post_init__()
        pick(POTENTIALS, self.potential, "potential")

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return self.chain_needs(gradient=False)

    def cost(self, reward: Reward) -> Evaluations:
        del reward
        return self.chain_cost()

    def scored(
        self,
        tilt: Tilt,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        key: Key[Array, ""],
        before: Particle | None,
    ) -> Particle:
        ahead, value = look_ahead(self.look_at, tilt, x, t, key)
        together = POTENTIALS[self.potential]
        if together is None or before is None:
            return Particle(x, ahead, value, value)
        so_far = together(before.memory, value)
        return Particle(x, ahead, before.phi + so_far, so_far)
