"""Trained networks of colour pictures, as perceptions of pictures of any size."""

import abc
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.rules import full_products
from core.nets.perception import Perception
from core.overriding import overridable


class Layers(NamedTuple):
    """What a network sees in a picture: images of channels, from fine to coarse, and one vector."""

    images: tuple[Float[Array, "_ _ _"], ...]
    vector: Float[Array, " dim"]


class Pretrained(Perception):
    """A network with the preprocessing that it was trained with.

    It looks at network values in [-1, 1] of pictures `(H, W, 1)` or `(H, W, 3)`, as grey levels
    `127.5 (x + 1)` that are not rounded, so that it is differentiable; gray is repeated for the
    three colours. All of it is float32 with full products.
    """

    @abc.abstractmethod
    def prepared(self, levels: Float[Array, "h w 3"]) -> Float[Array, "high wide 3"]:
        """The input of the network, from grey levels in [0, 255]: resized and scaled."""

    @abc.abstractmethod
    def layers(self, image: Float[Array, "high wide 3"]) -> Layers:
        """What it sees in an input."""

    @overridable
    def logits(self, vector: Float[Array, " dim"]) -> Float[Array, " classes"]:
        """Those of the network's own classes; none where it has no classifier."""
        return vector[:0]

    def look(self, levels: Float[Array, "h w c"]) -> Layers:
        """What it sees in a picture of grey levels, rounded or not."""
        with full_products():
            return self.layers(self.input(levels))

    def input(self, levels: Float[Array, "h w c"]) -> Float[Array, "high wide 3"]:
        """The input of the network of a gray or colour picture. Raises `UserError` for another."""
        if levels.ndim != 3 or levels.shape[2] not in (1, 3):
            raise UserError(
                f"this network looks at pictures of 1 or 3 channels, not at shape {levels.shape}: "
                "compare pixels, or features that apps.features trains"
            )
        wide = jnp.broadcast_to(levels.astype(jnp.float32), (*levels.shape[:2], 3))
        with full_products():
            return self.prepared(wide)

    def maps(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, "places channels"], ...]:
        seen = self.look(127.5 * (x + 1)).images
        return x.reshape(1, -1), *(one.reshape(-1, one.shape[-1]) for one in seen)

    def vector(self, x: Float[Array, "*shape"]) -> Float[Array, " dim"]:
        return self.look(127.5 * (x + 1)).vector
