"""A small discriminator: is this example real?"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Int, Key

from core.nets.initial import Normal, initialise
from core.nets.layers import Dense


class Discriminator(eqx.Module):
    """The logit `D(x, label)` of one example, positive for real ones.

    An image is folded: 2x2 neighbours become one place, through a dense layer, as long as both
    sides are even. The result, or a point, goes through two hidden layers, whose output are the
    features `h(x)`. With labels `D = w . h + e_label . h`; the label `num_classes` is the null
    class. No normalisation over the batch, so examples do not see each other.

    It is small: fit for points and for images of up to about 32 pixels. Source: projection
    discriminator (arXiv 1802.05637), eq. 3.
    """

    folds: tuple[Dense, ...]
    hidden: tuple[Dense, ...]
    output: Dense
    classes: Float[Array, "classes width"] | None

    def __init__(self, shape: tuple[int, ...], num_classes: int, width: int, *, normal: Normal):
        folds, shape = [], tuple(shape)
        while len(shape) == 3 and shape[0] % 2 == 0 and shape[1] % 2 == 0:
            channels = min(width * 2 ** len(folds), 4 * width)
            folds.append(Dense(4 * shape[2], channels, scale=_GAIN, normal=normal))
            shape = (shape[0] // 2, shape[1] // 2, channels)
        sizes = (math.prod(shape), 2 * width, 2 * width)
        self.folds = tuple(folds)
        self.hidden = tuple(
            Dense(a, b, scale=_GAIN, normal=normal) for a, b in zip(sizes[:-1], sizes[1:])
        )
        self.output = Dense(sizes[-1], 1, normal=normal)
        scale = 1 / math.sqrt(sizes[-1])
        self.classes = scale * normal(num_classes + 1, sizes[-1]) if num_classes else None

    def features(self, x: Float[Array, "*shape"]) -> Float[Array, " width"]:
        """`h(x)`, the input of the last layer."""
        for fold in self.folds:
            x = _activate(fold(rearrange(x, "(h p) (w q) c -> h w (p q c)", p=2, q=2)))
        h = x.reshape(-1)
        for layer in self.hidden:
            h = _activate(layer(h))
        return h

    def __call__(
        self, x: Float[Array, "*shape"], label: Int[Array, ""] | None = None
    ) -> Float[Array, ""]:
        h = self.features(x)
        logit = self.output(h)[0]
        if self.classes is None:
            return logit
        return logit + jnp.dot(self.classes[-1 if label is None else label], h)


def discriminator(
    shape: tuple[int, ...], num_classes: int = 0, width: int = 64, *, key: Key[Array, ""]
) -> Discriminator:
    """A fresh discriminator of examples of `shape`: images (H, W, C), points, or anything flat."""
    return initialise(lambda normal: Discriminator(shape, num_classes, width, normal=normal), key)


_GAIN = math.sqrt(2.0)


def _activate(x: Float[Array, "*batch width"]) -> Float[Array, "*batch width"]:
    return jax.nn.leaky_relu(x, 0.2)
