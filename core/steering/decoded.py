"""Rewards of pictures on maps of latents."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float

from core.data.scale import Scale
from core.steering.reward import Reward


class Decoded(Reward):
    """`r(D(centre + spread x))`: the reward of the picture that a codec makes of a latent.

    **Fields:** `scale` of the latents; `codec`, an object with `decode(z)`, that JAX can
    differentiate where the reward is.
    """

    reward: Reward
    scale: Scale = eqx.field(static=True)
    codec: Any

    @property
    def differentiable(self) -> bool:
        return self.reward.differentiable

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        return self.reward(self.codec.decode(self.scale.undone(x)))
