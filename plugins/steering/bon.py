"""Best of N and importance sampling: samples of the map, scored."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.steering.look import Jump
from core.steering.reward import Reward
from core.steering.steering import Evaluations, Island, Steering, Tilt, only_best, register_steering
from core.steering.weights import effective, log_mean


@dataclass(frozen=True)
class OneStepDraws(Steering):
    """Samples in one jump from noise."""

    def cost(self, reward: Reward) -> Evaluations:
        del reward
        return Evaluations(forward=1)

    def scored(
        self, tilt: Tilt, n: int, key: Key[Array, ""]
    ) -> tuple[Float[Array, " n *shape"], Float[Array, " n"]]:
        """`n` samples and `lambda r` of each."""
        path = tilt.flow_map.path
        start = path.time_of_unit(1.0)
        x = tilt.each(lambda z: Jump()(tilt.flow_map, z, start, tilt.cond))(tilt.noise(key, n))
        return x, tilt.each(tilt.log_tilt)(x)


@register_steering
@dataclass(frozen=True)
class SNIS(OneStepDraws):
    """Self-normalised importance sampling: weights `exp(lambda r)`. Exact for the map."""

    name: ClassVar[str] = "snis"
    exact: ClassVar[bool] = True
    normalises: ClassVar[bool] = True
    source: ClassVar[str] = "importance sampling"

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        x, log_w = self.scored(tilt, n, key)
        return Island(x, log_w, log_mean(log_w), effective(log_w)[None], jnp.arange(n))


@register_steering
@dataclass(frozen=True)
class BestOfN(OneStepDraws):
    """The best of each island: the baseline at equal cost. A search, not the tilted
    distribution."""

    name: ClassVar[str] = "bon"
    exact: ClassVar[bool] = False
    source: ClassVar[str] = "best of N"

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        x, log_tilt = self.scored(tilt, n, key)
        return only_best(x, log_tilt, jnp.arange(n))
