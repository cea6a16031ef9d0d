"""Pretext tasks of an encoder of features: to fill in masked parts, or to classify.

Both train one player, `model`, that has the encoder inside (see `core.nets.encoder`).
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key

from core.objectives.objective import Batch, Metrics, Objective, Players


class MaskedReconstruction(Objective):
    """`E |m (A((1 - m) x) - x)|^2 / E m`: square patches are hidden, each with the same
    probability, and only they count.

    Source: the encoder of drifting models (Deng et al., 2026), after masked autoencoders
    (arXiv 2111.06377).
    """

    patch: int = eqx.field(static=True, default=2)
    share: float = eqx.field(static=True, default=0.5)

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
        hidden, error = jax.vmap(lambda x, key: self.parts(players["model"], x, key))(
            batch.x_0, keys
        )
        loss = jnp.sum(error) / jnp.maximum(jnp.sum(hidden) * batch.x_0.shape[-1], 1.0)
        return {"model": loss}, carry, {"loss": loss}

    def parts(
        self, model: Any, x: Float[Array, "height width channels"], key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The number of hidden pixels of one image, and their squared error."""
        mask = self.mask(x.shape, key)
        error = jnp.where(mask, model(self.hide(x, mask)) - x, 0.0)
        return jnp.sum(mask) * 1.0, jnp.sum(error**2)

    def mask(self, shape: tuple[int, ...], key: Key[Array, ""]) -> Bool[Array, "height width 1"]:
        """Which pixels are hidden; patches at the right and lower edge may be cut."""
        cells = -(-shape[0] // self.patch), -(-shape[1] // self.patch)
        drawn = jr.bernoulli(key, self.share, cells)
        wide = drawn.repeat(self.patch, axis=0).repeat(self.patch, axis=1)
        return wide[: shape[0], : shape[1], None]

    def hide(
        self, x: Float[Array, "height width channels"], mask: Bool[Array, "height width 1"]
    ) -> Float[Array, "height width channels"]:
        """The image with 0, the middle of the range, where the mask is."""
        return jnp.where(mask, 0.0, x)


class Classification(Objective):
    """Cross-entropy of the labels."""

    def __call__(
        self,
        players: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[dict[str, Float[Array, ""]], Any, Metrics]:
        import optax

        del target, key, step
        assert batch.label is not None
        logits = jax.vmap(players["model"])(batch.x_0)
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label)
        right = jnp.mean(jnp.argmax(logits, axis=1) == batch.label)
        return {"model": jnp.mean(each)}, carry, {"loss": jnp.mean(each), "accuracy": right}
