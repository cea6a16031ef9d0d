"""Samples from the noise that a trained adapter proposes for an observation, in one evaluation.

    z ~ q(z | y),      x = F(z, 1, 0)

The run must be one of `apps.train --plugin vfm`, and the reward the inverse problem of its
training. Alone (`vfm`) the samples are the variational posterior: fast, and as good as the adapter.
Weighted (`vfm-snis`) they are exact for the map's own distribution, with any adapter and any
lambda:

    log w = lambda r(x) - log[(1 - d) q(z | y) / N(z; 0, I) + d]

where a share `d` of the noise is standard normal. It bounds the weights by `exp(lambda r) / d`;
without it they have no variance where `q` is narrow. Source: Variational Flow Maps
(arXiv 2603.07276); defensive importance sampling, Hesterberg (Technometrics 1995).
"""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import require
from core.flow.path import gaussian
from core.steering.look import Jump
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Island,
    Need,
    Steering,
    Tilt,
    register_steering,
    unweighted,
)
from core.steering.weights import effective, log_mean


@dataclass(frozen=True)
class Adapted(Steering):
    """Samples in one jump from adapted noise."""

    source: ClassVar[str] = "arXiv 2603.07276"

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return frozenset({"proposal"})

    def cost(self, reward: Reward) -> Evaluations:
        """The adapter is not counted: it looks once at the observation, whatever the number of
        particles."""
        del reward
        return Evaluations(forward=1)

    def drawn(
        self, tilt: Tilt, n: int, fresh: float, key: Key[Array, ""]
    ) -> tuple[Float[Array, " n *shape"], Float[Array, " n"]]:
        """`n` samples, a share `fresh` of them from standard normal noise, and the log of the
        adapter's density over the standard normal one at the noise of each."""
        assert tilt.proposal is not None
        path, (key_noise, key_which) = gaussian(tilt.flow_map.path), jr.split(key)
        start = path.time_of_unit(1.0)
        mean, log_std = tilt.proposal.distribution(tilt.reward, tilt.cond)
        own = jax.vmap(lambda k: jr.normal(k, tilt.shape))(jr.split(key_noise, n))
        which = jr.bernoulli(key_which, fresh, (n,)).reshape(-1, *[1] * len(tilt.shape))
        z = jnp.where(which, own, mean[None] + jnp.exp(log_std)[None] * own)
        whitened = (z - mean[None]) / jnp.exp(log_std)[None]
        log_ratio = jnp.sum((z**2 - whitened**2).reshape(n, -1), axis=1) / 2 - jnp.sum(log_std)
        scale = path.sigma(start) * path.noise_std
        x = tilt.each(lambda z: Jump()(tilt.flow_map, scale * z, start, tilt.cond))(z)
        return x, log_ratio


@register_steering
@dataclass(frozen=True)
class VFMDraws(Adapted):
    """Draws of the variational posterior of an observation, by a run of vfm. As good as its
    adapter, and for lambda = 1 alone."""

    name: ClassVar[str] = "vfm"
    exact: ClassVar[bool] = False

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        return unweighted(self.drawn(tilt, n, 0.0, key)[0])


@register_steering
@dataclass(frozen=True)
class VFMSNIS(Adapted):
    """The same with weights that make up for the adapter: exact for the map."""

    name: ClassVar[str] = "vfm-snis"
    exact: ClassVar[bool] = True
    normalises: ClassVar[bool] = True

    fresh: float = 0.1
    """Share of the particles that start from standard normal noise, which bounds the weights."""

    def __post_init__(self):
        require(0 < self.fresh <= 1, f"fresh must be above 0 and at most 1, got {self.fresh}")

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        x, log_ratio = self.drawn(tilt, n, self.fresh, key)
        proposed = jnp.logaddexp(jnp.log1p(-self.fresh) + log_ratio, jnp.log(self.fresh))
        log_w = tilt.each(tilt.log_tilt)(x) - proposed
        return Island(x, log_w, log_mean(log_w), effective(log_w)[None], jnp.arange(n))
