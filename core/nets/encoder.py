"""A small convolutional encoder for images, with features at several scales, and its training."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.nets.convolutional import resample
from core.nets.initial import Normal, initialise
from core.nets.layers import Dense, layer_norm
from core.nets.perception import Perception

FEWEST_PIXELS = 8


@dataclass(frozen=True)
class EncoderConfig:
    """Flags of the encoder. The defaults suit images of 8 to 64 pixels on a CPU."""

    width: int = 16
    """Channels of the first level; each further level has twice as many."""
    levels: int = 3
    """Levels, each of half the resolution of the one before; fewer where sides become odd."""
    blocks: int = 1
    """Residual blocks a level."""

    def __post_init__(self):
        if min(self.width, self.levels, self.blocks) < 1:
            raise UserError("--encoder.width, --encoder.levels and --encoder.blocks start at 1")

    def plan(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """The side of the patches that make one place of the first level, which has at least 8 by
        8 places where the image has as many pixels; and the number of levels."""
        side, patch = min(shape[:2]), 1
        while _even(shape, 2 * patch) and side // (2 * patch) >= FEWEST_PIXELS:
            patch *= 2
        levels = 1
        while levels < self.levels and _even(shape, patch * 2**levels):
            levels += 1
        return patch, levels

    def autoencoder(self, shape: tuple[int, ...], *, key: Key[Array, ""]) -> "Autoencoder":
        """Encoder and decoder. Raises `UserError` for data that are no images."""
        self._check(shape)
        return initialise(lambda normal: Autoencoder(shape, self, normal=normal), key)

    def classifier(
        self, shape: tuple[int, ...], classes: int, *, key: Key[Array, ""]
    ) -> "Classifier":
        """Encoder and linear classifier. Raises `UserError` for data that are no images."""
        self._check(shape)
        return initialise(lambda normal: Classifier(shape, classes, self, normal=normal), key)

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 3:
            raise UserError(
                f"features are for images (H, W, C), but the data have shape {shape}: "
                "points and series are compared as they are"
            )


def _even(shape: tuple[int, ...], by: int) -> bool:
    return shape[0] % by == 0 and shape[1] % by == 0


class Conv(eqx.Module):
    """A 3x3 convolution of the same size, as one matrix product: on a CPU several times faster,
    backward too, than XLA's convolution of so few channels."""

    dense: Dense

    def __init__(self, size_in: int, size_out: int, *, normal: Normal):
        self.dense = Dense(9 * size_in, size_out, normal=normal)

    def __call__(self, x: Float[Array, "h w in"]) -> Float[Array, "h w out"]:
        high, wide, _ = x.shape
        padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
        near = [padded[i : i + high, j : j + wide] for i in range(3) for j in range(3)]
        return self.dense(jnp.concatenate(near, axis=-1))


class Block(eqx.Module):
    """`h + dense(silu(conv(norm(h))))`, the norm over the channels of each place."""

    conv: Conv
    merge: Dense

    def __init__(self, channels: int, *, normal: Normal):
        self.conv = Conv(channels, 2 * channels, normal=normal)
        self.merge = Dense(2 * channels, channels, scale=0.5, normal=normal)

    def __call__(self, h: Float[Array, "h w c"]) -> Float[Array, "h w c"]:
        return h + self.merge(jax.nn.silu(self.conv(layer_norm(h))))


class Encoder(Perception):
    """Residual blocks at each level; a level's output is a feature map of its own.

    Its vector is the mean over the places of every map but the raw one, side by side.
    """

    stem: Conv
    merges: tuple[Dense, ...]
    levels: tuple[tuple[Block, ...], ...]
    patch: int = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, shape: tuple[int, ...], config: EncoderConfig, *, normal: Normal):
        self.patch, count = config.plan(shape)
        widths = [config.width * 2**i for i in range(count)]
        self.shape = shape
        self.stem = Conv(shape[2] * self.patch**2, config.width, normal=normal)
        self.merges = tuple(Dense(a, b, normal=normal) for a, b in zip(widths, widths[1:]))
        self.levels = tuple(
            tuple(Block(width, normal=normal) for _ in range(config.blocks)) for width in widths
        )

    def images(self, x: Float[Array, "height width channels"]) -> list[Float[Array, "h w c"]]:
        """The output of every level, fine to coarse."""
        p = self.patch
        h = self.stem(rearrange(x, "(h p) (w q) c -> h w (p q c)", p=p, q=p))
        found: list[Array] = []
        for i, blocks in enumerate(self.levels):
            h = h if i == 0 else self.merges[i - 1](resample(h, "down"))
            for block in blocks:
                h = block(h)
            found.append(h)
        return found

    def maps(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, "places channels"], ...]:
        return x.reshape(1, -1), *(h.reshape(-1, h.shape[-1]) for h in self.images(x))

    def vector(self, x: Float[Array, "*shape"]) -> Float[Array, " dim"]:
        return jnp.concatenate([jnp.mean(one, axis=0) for one in self.maps(x)[1:]])

    @property
    def dim(self) -> int:
        """Length of the vector."""
        return sum(blocks[0].merge.weight.shape[0] for blocks in self.levels)


class Autoencoder(eqx.Module):
    """An encoder and the way back: from the coarsest level up, each finer level added."""

    encoder: Encoder
    splits: tuple[Dense, ...]
    blocks: tuple[Block, ...]
    output: Dense

    def __init__(self, shape: tuple[int, ...], config: EncoderConfig, *, normal: Normal):
        self.encoder = Encoder(shape, config, normal=normal)
        patch, count = config.plan(shape)
        widths = [config.width * 2**i for i in range(count)]
        self.splits = tuple(Dense(b, a, normal=normal) for a, b in zip(widths, widths[1:]))
        self.blocks = tuple(Block(width, normal=normal) for width in widths)
        self.output = Dense(config.width, shape[2] * patch**2, normal=normal)

    def __call__(self, x: Float[Array, "height width channels"]) -> Float[Array, "_ _ channels"]:
        """An image of the same shape."""
        *finer, h = self.encoder.images(x)
        h = self.blocks[-1](h)
        for i in reversed(range(len(finer))):
            h = self.blocks[i](finer[i] + self.splits[i](resample(h, "up")))
        p = self.encoder.patch
        return rearrange(self.output(h), "h w (p q c) -> (h p) (w q) c", p=p, q=p)


class Classifier(eqx.Module):
    """An encoder and a linear classifier on its vector."""

    encoder: Encoder
    head: Dense

    def __init__(
        self, shape: tuple[int, ...], classes: int, config: EncoderConfig, *, normal: Normal
    ):
        self.encoder = Encoder(shape, config, normal=normal)
        self.head = Dense(self.encoder.dim, classes, normal=normal)

    @property
    def num_classes(self) -> int:
        """Classes that it tells apart."""
        return self.head.weight.shape[0]

    def __call__(self, x: Float[Array, "height width channels"]) -> Float[Array, " classes"]:
        """The logits of the classes."""
        return self.head(self.encoder.vector(x))
