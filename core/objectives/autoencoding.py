"""The objective of a variational autoencoder."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.objectives.objective import Batch, Metrics, Objective, Players


class Autoencoding(Objective):
    """`E |D(mean + std e) - x|^2 + kl KL(N(mean, std^2) | N(0, 1))`, e ~ N(0, I).

    The squared error is a mean over the numbers of an image, the divergence over those of a latent.
    A small `kl` keeps the latents at unit scale and smooth, and pictures sharp: latent diffusion
    (arXiv 2112.10752) takes about 1e-6 of sums.
    """

    kl: float = eqx.field(static=True, default=1e-3)

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
        keys = jr.split(key, len(batch.x_0))
        parts = jax.vmap(lambda x, key: self.parts(players["model"], x, key))
        error, divergence = (jnp.mean(one) for one in parts(batch.x_0, keys))
        loss = error + self.kl * divergence
        metrics = {"loss": loss, "reconstruction": error, "divergence": divergence}
        return {"model": loss}, carry, metrics

    def parts(
        self, model: Any, x: Float[Array, "height width channels"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The squared error of one image, and the divergence of its posterior."""
        mean, std = model.encode(x)
        z = mean + std * jr.normal(key, mean.shape, mean.dtype)
        divergence = (mean**2 + std**2 - 1) / 2 - jnp.log(std)
        return jnp.mean((model.decode(z) - x) ** 2), jnp.mean(divergence)
